"""From a model reference to a module on a device: where it lies, its revision, its files, the precision."""

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from langadapt.data.tokens import Tokens, tokenize
from langadapt.errors import ModelError
from langadapt.files.atomic import open_for_hash
from langadapt.files.fetch import fetch_snapshot
from langadapt.files.json import read_json
from langadapt.files.paths import real_path, user_path
from langadapt.models.convert import converted_revision
from langadapt.models.towers import MODEL_FILES, read_module
from langadapt.recipes import ModelRef
from langadapt.recipes.find import is_local_name


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A base model on this disk.

    `revision` is the commit hash of a Hub repository, or `sha256:` and 16 digits over a local folder's files.
    Where weights were tuned since, `+` and a digest of the changes follow.
    """

    repo: str
    revision: str
    path: Path

    @property
    def label(self) -> str:
        """Name and short revision, as they stand in a signature."""
        base, plus, changes = self.revision.removeprefix("sha256:").partition("+")
        return f"{Path(self.repo).name}@{base[:12]}{plus}{changes}"


def resolve_model(ref: ModelRef) -> ResolvedModel:
    """Find a base model: a local folder of that name, else on the Hub; a ModelError says why not."""
    local = user_path(ref.repo)
    if local.is_dir():
        if not any(local.glob("*.safetensors")):
            raise ModelError(
                f"{ref.repo}: {_LACKS}; langadapt models convert {ref.repo} --out NEW rewrites them"
            )
        try:
            revision = folder_hash(local)
        except OSError as error:
            raise ModelError(
                f"{ref.repo}: {error.filename}: {error.strerror}; save the model again"
            ) from error
        return ResolvedModel(repo=str(real_path(local)), revision=revision, path=real_path(local))
    if is_local_name(ref.repo) and ref.revision is None:
        raise ModelError(f"{ref.repo}: no such model folder; a model of the Hub is called org/name")
    where = f"{ref.repo} at revision {ref.revision or 'main'}"
    path = fetch_snapshot(ref.repo, ref.revision, MODEL_FILES, what=where)
    if not any(path.glob("*.safetensors")):
        way_out = f"type: langadapt models convert {ref.repo}@{path.name} --out NEW; then name that folder"
        if commit := converted_revision(ref.repo):
            way_out = f"a pull request of the Hub's conversion bot has them: name the revision {commit}"
        raise ModelError(f"{where}: {_LACKS}; {way_out}")
    return ResolvedModel(repo=ref.repo, revision=path.name, path=path)


_LACKS = "no safetensors weights in it, and other formats are never opened"
ARTIFACT = "artifact.json"
"""The facts of an artifact; a folder that has it is one."""
_MOST_TEXT_BYTES = 1 << 28
_MOST_DIFFERENCE = 1e-3
"""Of float32 embeddings between a text alone and beside another; rounding makes a thousandth of it."""

PROBE_TEXTS = ["a", "a a a a a a a a"]


def folder_hash(folder: Path) -> str:
    """Content hash of a local model folder's configuration, tokenizer and weights.

    Of an artifact that of its facts, which name the sums of its other files; scores may come and go.
    """
    digest = hashlib.sha256()
    facts = folder / ARTIFACT
    files = [facts] if facts.is_file() else (path for name in MODEL_FILES for path in folder.glob(name))
    for path in sorted({*files}):
        digest.update(path.name.encode())
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with open_for_hash(path, most_bytes=_MOST_TEXT_BYTES) as file:
            hashlib.file_digest(file, lambda: digest)
    return f"sha256:{digest.hexdigest()[:16]}"


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


class Refusing:
    """Turns what is raised inside into one line; the tokenizers library raises plain `Exception`."""

    def __init__(self, line: str) -> None:
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None and (kind is Exception or issubclass(kind, _BROKEN)):
            assert error is not None
            first, *_ = str(error).strip().splitlines() or [kind.__name__]
            raise ModelError(f"{self._line}: {first}") from error


def load_config(model: ResolvedModel) -> Any:
    """The model's configuration; never runs remote code."""
    path = model.path / "config.json"
    if not path.is_file() and path.with_name("open_clip_config.json").is_file():
        raise ModelError(f"{model.repo}: is for open_clip alone; name its copy for transformers")
    with Refusing(f"{model.repo}: no usable config.json"):
        facts = read_json(path)
        if "auto_map" in facts and facts.get("model_type") not in CONFIG_MAPPING:
            lacks = f"{model.repo}: brings code of its own for '{facts.get('model_type')}', which never runs"
            raise ModelError(f"{lacks}; choose a model that transformers knows")
        return AutoConfig.from_pretrained(model.path, trust_remote_code=False)


def load_module(
    model: ResolvedModel, config: Any, *, auto: Any = AutoModel, pooler: bool = False
) -> nn.Module:
    """The model in float32, in eval mode, from safetensors only; `auto` and `pooler` as `read_module` has."""
    keep_freed_memory()
    with Refusing(f"{model.repo}: cannot load its weights"):
        module, missing = read_module(model.path, config, auto=auto, pooler=pooler)
    if missing:
        lost = f"{len(missing)} weights are missing from the file, first '{missing[0]}'"
        raise ModelError(f"{model.repo}: {lost}; a model with random weights is never used")
    return module


def position_limit(config: Any, tower: nn.Module) -> int:
    """Longest text, special tokens included, that a text tower has positions for."""
    for name, table in tower.named_modules():
        if isinstance(table, nn.Embedding) and name.endswith(("position_embedding", "position_embeddings")):
            # RoBERTa, MPNet and their kin count positions from padding_idx + 1.
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    limit = int(getattr(config, "max_position_embeddings", None) or 0)
    return limit if limit > 0 else 1_000_000  # XLNet says -1


def load_tokenizer(model: ResolvedModel, **options: Any) -> Any:
    """The model's tokenizer."""
    with Refusing(f"{model.repo}: no usable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=False, **options)
    # Without its files transformers makes an empty vocabulary, in which every text looks alike.
    files = set(tokenizer.vocab_files_names.values()) - {"tokenizer_config.json"}
    if files and not any((model.path / name).is_file() for name in files):
        raise ModelError(f"{model.repo}: no tokenizer in it; expected one of {', '.join(sorted(files))}")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{model.repo}: its tokenizer has no padding token")
    return tokenizer


def check_padding(model: ResolvedModel, embed: Callable[[NDArray[np.int64]], Tensor]) -> None:
    """Refuse a text tower in which a text depends on a longer one that it is padded beside.

    `embed` takes row numbers of two texts, a short one and a long one, to `[B, D]` or `[B, T, D]`.
    """
    with Refusing(f"{model.repo}: cannot embed texts"), torch.inference_mode():
        alone, beside = embed(np.arange(1))[0], embed(np.arange(2))[0]
        beside = beside[: len(alone)]
        difference = float((alone - beside).abs().max() / alone.abs().max())
    if not difference < _MOST_DIFFERENCE:
        problem = f"a text's embedding depends on the texts beside it, by {difference:.1g} of its values"
        raise ModelError(f"{model.repo}: {problem}; take a model that masks its padding")


def load_image_processor(model: ResolvedModel) -> Any:
    """The model's image processor on the PIL backend: no torchvision, the same pixels everywhere."""
    with Refusing(f"{model.repo}: no usable image processor"):
        return AutoImageProcessor.from_pretrained(model.path, backend="pil", trust_remote_code=False)


def tokenize_texts(
    tokenizer: Any, texts: Sequence[str], *, max_tokens: int, prepare: Callable[[str], str] = str
) -> Tokens:
    """Return ids of prepared texts with special tokens, cut at `max_tokens`; no text may be empty."""

    def encode(some: list[str]) -> list[list[int]]:
        given = [prepare(text) for text in some]
        found = tokenizer(given, truncation=True, max_length=max_tokens, return_attention_mask=False)
        rows: list[list[int]] = found["input_ids"]
        return rows

    return tokenize(texts, encode, pad_id=tokenizer.pad_token_id)


# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 512 MB, for what is asked for next.

    By itself it gives such memory back after each forward pass, and the system clears every page of it anew:
    a third of an adapter's step. Only glibc is told, and not where a `MALLOC_` variable says something else.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 512 << 20)


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, which must be on this machine, or the best one."""
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"--device {name}: not on this machine; {best_device()} is") from error
    return device


def best_device() -> torch.device:
    """A CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def take_device(device: torch.device) -> None:
    """Make a CUDA device the current one; a ModelError where a launched process has no GPU for itself."""
    if device.type != "cuda":
        return
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise ModelError(
            f"process {number + 1} has no GPU, {count} are here; start {count}, or use --device cpu"
        )
    if device.index is not None:
        torch.cuda.set_device(device)


def device_name(device: torch.device) -> str:
    """The device with the name that its maker gave it."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def uses_bf16(device: torch.device) -> bool:
    """Whether models compute in bfloat16 there: where it runs in hardware; elsewhere float32 is faster.

    `LANGADAPT_PRECISION`, `float32` or `bfloat16`, decides instead where it is set.
    """
    chosen = os.environ.get("LANGADAPT_PRECISION")
    if chosen:
        if chosen not in ("float32", "bfloat16"):
            raise ModelError(f"LANGADAPT_PRECISION={chosen}: expected float32 or bfloat16")
        return chosen == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
    return False


def precision(device: torch.device) -> str:
    """Kind of device and dtype that models compute in there, as signatures state it: `cpu-float32`."""
    return f"{device.type}-{'bfloat16' if uses_bf16(device) else 'float32'}"
