"""An aligned model, and a plain CLIP, through the commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from tiny_tune import every_epoch_is_better
from transformers import AutoModel, AutoTokenizer

import langadapt as package

LILT = "text=[adapters, layer_norm, projection]"
SLOW = ["--set", "epochs=2", "--set", "batch_size=4", "--set", "held_out_fraction=0.4", "--set", "dim=16"]


def rows_of(folder: Path, texts: list[str]) -> torch.Tensor:
    return package.load(folder).encode_text(texts, exact=True)


@pytest.mark.parametrize("plain", [False, True], ids=["aligned", "tuned CLIP"])
def test_every_command_takes_it(
    langadapt: Callable[..., Any],
    language_folder: Path,
    vision_folder: Path,
    text_model_folder: Path,
    teacher_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: bool,
) -> None:
    every_epoch_is_better(monkeypatch)
    table, photos, run = language_folder / "test.tsv", language_folder / "photos", tmp_path / "run"
    given = ["--pairs", table, "--images", photos, "--out", run]
    if plain:
        shutil.copytree(teacher_folder, tmp_path / "clip")
        before = sorted(path.name for path in (tmp_path / "clip").iterdir())
        own = ["--captions", table, "--images", photos]
        assert langadapt("eval", tmp_path / "clip", *own).code == 0
        assert sorted(path.name for path in (tmp_path / "clip").iterdir()) == before, "it stays as it is"
        more = [part.replace("epochs", "tune.epochs").replace("batch_", "tune.batch_") for part in SLOW[:4]]
        done = langadapt(
            "tune", "--from", tmp_path / "clip", *given, *more, "--set", "tune.text=bitfit", "--json"
        )
    else:
        models = ["--image-model", vision_folder, "--text-model", text_model_folder]
        done = langadapt("align", *models, *given, *SLOW, "--set", LILT, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["trained_percent"] < 50
    scored = langadapt("eval", run, "--captions", table, "--images", photos, "--json")
    assert scored.code == 0, scored.err
    (card,) = json.loads(scored.out)["cards"]
    assert card["student"]["signature"].count(package.load(run).artifact.digest) == 1
    assert card["floor"] is None
    found = langadapt("search", photos, "a red cat", "--model", run, "--json", "--top-k", "12")
    assert found.code == 0, found.err
    model = package.load(run)
    files = sorted(photos.iterdir())
    similar = model.encode_text(["a red cat"]) @ model.encode_images(files).T
    (answer,) = json.loads(found.out)
    shown = {Path(image["path"]).name: image["score"] for image in answer["images"]}
    expected = {file.name: value for file, value in zip(files, similar[0].tolist(), strict=True)}
    assert shown == pytest.approx(expected, abs=5e-3)
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    named = tmp_path / "classes.txt"
    named.write_text("red\nblue\n", encoding="utf-8")
    done = langadapt("classify", photos, "--model", run, "--classes", named, "--json")
    assert done.code == 0, done.err
    sent = langadapt("publish", run, "--repo", "me/x", "--dry-run", "--local-base-models", "--json")
    assert sent.code == 0, sent.err
    assert json.loads(sent.out)["largest_difference"] <= 1e-5
    texts = ["a red cat", "a blue dog at home"]
    form = "transformers" if plain else "sentence-transformers"
    other = langadapt("export", run, "--format", form, "--out", tmp_path / "out", "--json")
    assert other.code == 0, other.err
    if plain:
        ids = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            theirs = AutoModel.from_pretrained(tmp_path / "out").get_text_features(**ids).pooler_output
        theirs = torch.nn.functional.normalize(theirs, dim=-1)
    else:
        exported = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
        theirs = exported.encode(texts, convert_to_tensor=True)
        seen = exported.encode([Image.open(files[0])], convert_to_tensor=True)
        torch.testing.assert_close(seen, model.encode_images(files[:1]), atol=1e-5, rtol=0)
        refused = langadapt("export", run, "--format", "transformers", "--out", tmp_path / "other")
        assert refused.code == 2
        assert "has no place for adapters" in refused.err
    torch.testing.assert_close(theirs, rows_of(run, texts), atol=1e-5, rtol=0)
    again = ["--from", run, "--pairs", table, "--images", photos, "--out", tmp_path / "domain"]
    again += [] if plain else ["--set", "domain.image=layer_norm"]
    small = [
        "--set",
        "domain.epochs=1",
        "--set",
        "domain.batch_size=4",
        "--set",
        "domain.held_out_fraction=0.4",
    ]
    done = langadapt("domain", *again, *small, "--json")
    assert done.code == 0, done.err
