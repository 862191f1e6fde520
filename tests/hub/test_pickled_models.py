"""A model of the Hub without safetensors: where they are, or what to type."""

from pathlib import Path

import pytest
import torch
from own_endpoint import use_endpoint
from stand_in import OwnHub

from langadapt.errors import ModelError
from langadapt.models import resolve_model
from langadapt.recipes import ModelRef

pytestmark = pytest.mark.hub
BOT = {
    "title": "Adding `safetensors` variant of this model",
    "num": 7,
    "status": "open",
    "isPullRequest": True,
    "author": {"name": "SFconvertbot"},
    "repo": {"name": "org/old", "type": "model"},
    "createdAt": "2023-03-23T18:11:28.000Z",
}


def test_the_conversion_bots_commit_is_named_or_what_to_type(
    own_hub: OwnHub, text_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint(monkeypatch, own_hub.url, cache=tmp_path / "hub")
    files = {path.name: path.read_bytes() for path in text_model_folder.iterdir()}
    safe = files.pop("model.safetensors")
    torch.save({"x": torch.ones(1)}, tmp_path / "x")
    pickled = {**files, "pytorch_model.bin": (tmp_path / "x").read_bytes()}
    repository = own_hub.state.made("org/old", **pickled)
    head = repository.head
    with pytest.raises(ModelError, match=f"langadapt models convert org/old@{head} --out NEW"):
        resolve_model(ModelRef(repo="org/old"))

    own_hub.state.changes["org/old"] = [BOT]
    repository.commits.insert(0, ("refs/pr/7", {**files, "model.safetensors": safe}))
    with pytest.raises(ModelError, match="conversion bot has them: name the revision refs/pr/7"):
        resolve_model(ModelRef(repo="org/old"))
    repository.commits[0] = ("refs/pr/7", pickled)
    with pytest.raises(ModelError, match="langadapt models convert"):
        resolve_model(ModelRef(repo="org/old"))
    assert not [line for line in own_hub.state.downloads if line.endswith(".bin")]
