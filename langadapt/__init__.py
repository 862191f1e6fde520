"""langadapt teaches CLIP a new language through a small adapter on frozen models."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = [
    "LanguageModel",
    "LanguageSet",
    "__version__",
    "distill",
    "evaluate",
    "load",
    "load_set",
    "publish",
]

if TYPE_CHECKING:
    from langadapt.api import distill, evaluate, publish
    from langadapt.models import LanguageModel, LanguageSet, load, load_set

_MODULES = {"distill": "api", "evaluate": "api", "publish": "api"}


def __getattr__(name: str) -> object:
    # torch and transformers take seconds to import; `langadapt --help` should not.
    if name in __all__:
        return getattr(import_module(f"langadapt.{_MODULES.get(name, 'models')}"), name)
    raise AttributeError(f"module 'langadapt' has no attribute '{name}'")
