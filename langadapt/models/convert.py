"""Weights of PyTorch's own format as safetensors: found in a pull request of the Hub, or rewritten."""

import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, HTTPError
from safetensors.torch import save_file

from langadapt.errors import ModelError
from langadapt.files.atomic import whole_folder, write_text
from langadapt.files.fetch import fetch_snapshot, is_offline
from langadapt.files.json import read_json
from langadapt.files.paths import user_path
from langadapt.models.towers import MODEL_FILES
from langadapt.recipes import ModelRef

_BOT = "SFconvertbot"
_PICKLED, _INDEX = "pytorch_model*.bin", "pytorch_model.bin.index.json"


def converted_revision(repo: str) -> str | None:
    """Return the commit of the Hub's conversion bot that has a model's weights as safetensors, if any."""
    if is_offline():
        return None
    try:
        api = HfApi()
        for change in api.get_repo_discussions(repo, author=_BOT, discussion_type="pull_request"):
            info = api.model_info(repo, revision=f"refs/pr/{change.num}")
            if any(file.rfilename.endswith(".safetensors") for file in info.siblings or ()):
                return info.sha
    except (HTTPError, HFValidationError, OSError):
        pass
    return None


def convert(ref: ModelRef, out: Path) -> list[str]:
    """Write a copy of a model whose pickled weights are safetensors; return the names of these files.

    They are read by `torch.load(weights_only=True)`, which makes tensors and nothing else, in a process of
    their own.

    Raises:
        ModelError: there is no such model, it has no such weights, or they hold something else than tensors.
    """
    source = user_path(ref.repo)
    if not source.is_dir():
        where = f"{ref.repo} at revision {ref.revision or 'main'}"
        wanted = [*(pattern for pattern in MODEL_FILES if "safetensors" not in pattern), _PICKLED]
        source = fetch_snapshot(ref.repo, ref.revision, wanted, what=where)
    pickled = sorted(source.glob(_PICKLED))
    if not pickled:
        raise ModelError(f"{ref.repo}: no {_PICKLED} in it; nothing is to be converted")
    names = {path.name: path.with_suffix(".safetensors").name.removeprefix("pytorch_") for path in pickled}
    with whole_folder(out) as folder:
        for path in {path for pattern in MODEL_FILES for path in source.glob(pattern)}:
            if path.suffix != ".safetensors" and path.name != _INDEX:
                shutil.copyfile(path, folder / path.name)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            for path in pickled:
                try:
                    fault = pool.submit(_rewrite, path, folder / names[path.name]).result()
                except BrokenProcessPool:
                    fault = "the process that read it ended: too little memory, or a damaged file"
                if fault:
                    raise ModelError(f"{ref.repo}: {path.name}: {fault}; nothing was written")
        if (source / _INDEX).is_file():
            index = read_json(source / _INDEX)
            index["weight_map"] = {key: names[name] for key, name in index["weight_map"].items()}
            write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")
    return list(names.values())


def _rewrite(source: Path, target: Path) -> str:
    """Rewrite one file; return what is wrong with it, nothing if all is well."""
    try:
        held = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        return "holds something else than tensors, or is damaged"
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        return "is no table of tensors by name"
    # Copies: safetensors refuses tensors that share memory.
    tensors = {str(name): value.detach().clone().contiguous() for name, value in held.items()}
    save_file(tensors, target, metadata={"format": "pt"})
    return ""
