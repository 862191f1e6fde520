"""langadapt teaches CLIP a new language through a small adapter on frozen models."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["LanguageModel", "LanguageSet", "__version__", "load", "load_set"]

if TYPE_CHECKING:
    from langadapt.models import LanguageModel, LanguageSet, load, load_set


def __getattr__(name: str) -> object:
    # torch and transformers take seconds to import; `langadapt --help` should not.
    if name in ("LanguageModel", "LanguageSet", "load", "load_set"):
        from langadapt import models

        return getattr(models, name)
    raise AttributeError(f"module 'langadapt' has no attribute '{name}'")
