"""Loading through transformers with its failures turned into one clear line."""

from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from langadapt.errors import ModelError
from langadapt.models.device import keep_freed_memory
from langadapt.models.resolve import ResolvedModel
from langadapt.models.towers import read_module

_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What transformers raises where a file of a model is not what it should be."""


class _Refusing:
    """Turns what is raised inside into one line; the tokenizers library raises plain `Exception`."""

    def __init__(self, line: str) -> None:
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and (kind is Exception or issubclass(kind, _BROKEN)):
            assert error is not None
            raise ModelError(f"{self._line}: {_first_line(error)}") from error


def load_config(model: ResolvedModel) -> Any:
    """The model's configuration; never runs remote code."""
    with _Refusing(f"{model.repo}: no usable config.json"):
        return AutoConfig.from_pretrained(model.path, trust_remote_code=False)


def load_module(model: ResolvedModel, config: Any, *, auto: Any = AutoModel) -> nn.Module:
    """The model in float32, in eval mode, from safetensors only.

    A random pooler is never made: where the class can leave it out, it is left out. `auto` is the class of
    transformers that knows which class the model has.
    """
    keep_freed_memory()
    with _Refusing(f"{model.repo}: cannot load its weights"):
        module, missing = read_module(model.path, config, auto=auto)
    if missing:
        raise ModelError(
            f"{model.repo}: {len(missing)} weights are missing from the file, first '{missing[0]}'; "
            "a model with random weights is never used"
        )
    return module


def position_limit(config: Any, tower: nn.Module) -> int:
    """Longest text, special tokens included, that a text tower has positions for."""
    for name, table in tower.named_modules():
        if isinstance(table, nn.Embedding) and name.endswith(("position_embedding", "position_embeddings")):
            # RoBERTa, MPNet and their kin count positions from padding_idx + 1.
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return int(getattr(config, "max_position_embeddings", None) or 1_000_000)


def load_tokenizer(model: ResolvedModel, **options: Any) -> Any:
    """The model's tokenizer."""
    with _Refusing(f"{model.repo}: no usable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False, **options)
    # Without its files transformers makes an empty vocabulary, in which every text looks alike.
    files = set(tokenizer.vocab_files_names.values()) - {"tokenizer_config.json"}
    if files and not any((model.path / name).is_file() for name in files):
        raise ModelError(f"{model.repo}: no tokenizer in it; expected one of {', '.join(sorted(files))}")
    return tokenizer


def load_image_processor(model: ResolvedModel) -> Any:
    """The model's image processor on the PIL backend: no torchvision, the same pixels everywhere."""
    with _Refusing(f"{model.repo}: no usable image processor"):
        return AutoImageProcessor.from_pretrained(model.path, backend="pil", trust_remote_code=False)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
