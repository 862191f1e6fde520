"""Each command does its job on tiny real models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import langadapt as package


def test_distil_score_search_and_encode(
    langadapt, language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    done = langadapt(
        "distill", "--recipe", language_folder / "es", "--out", run, "--set", "distill.epochs=2", "--json",
        "--state-cache", "10MB", "--state-bits", "8",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {kind.name for kind in (tmp_path / "cache").iterdir()} >= {"teacher-text", "states-8-bits"}
    said = json.loads(done.out)
    # 144 rows, 14 held out, a quarter of the rest again in English; batches of 16.
    assert (said["rows"], said["held_out_rows"], said["steps"]) == (130 + 32, 14, 20)
    assert {path.name for path in run.iterdir()} == {
        "adapter.safetensors", "artifact.json", "curve.svg", "log.jsonl", "recipe.yaml",
        "samples.safetensors",
    }  # fmt: skip

    scored = langadapt("eval", run, "--json-file", tmp_path / "scores.json", "--html", tmp_path / "page.html")
    assert scored.code == 0, scored.err
    (card,) = json.loads((tmp_path / "scores.json").read_text())["cards"]
    assert card["retention"] == pytest.approx(card["student"]["mr6"] / card["ceiling"]["mr6"])
    assert card["student"]["signature"].startswith(
        "benchmark:es-test|images:12|captions:12|which:all|language:es"
    )
    assert card["student"]["signature"] == card["signature"]
    assert f"{card['student']['mr6']:.1f}" in scored.out
    assert json.loads((run / "scores.json").read_text())["cards"] == [card]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "gato" in page
    assert "<title>Spanish for a local CLIP: Test pictures</title>" in page
    assert "Trained on 162 rows of Test sentences." in page

    found = langadapt(
        "search", language_folder / "photos", "gato rojo en mar", "--model", run, "--top", "3", "--json"
    )
    assert found.code == 0, found.err
    (answer,) = json.loads(found.out)
    model = package.load(run)
    photos = sorted((language_folder / "photos").iterdir())
    similarity = (model.encode_text(["gato rojo en mar"]) @ model.encode_images(photos).T)[0]
    best = [str(photos[i]) for i in similarity.topk(3).indices]
    assert [image["path"] for image in answer["images"]] == best

    (tmp_path / "texts.txt").write_text("gato rojo en mar\nperro azul en parque\n", encoding="utf-8")
    encoded = langadapt("encode", run, tmp_path / "texts.txt", "--out", tmp_path / "texts.npy")
    assert encoded.code == 0, encoded.err
    rows = torch.from_numpy(np.load(tmp_path / "texts.npy"))
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, model.encode_text(["gato rojo en mar", "perro azul en parque"]))


def test_scores_own_captions_with_and_without_images(langadapt, run_folder: Path, tmp_path: Path) -> None:
    lines = [
        {"image": f"{i}.png", "caption": c, "english": e}
        for i, (c, e) in enumerate(
            [("gato rojo en mar", "a red cat at sea"), ("casa azul en mar", "a blue house at sea")]
        )
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scored = langadapt("eval", run_folder, "--captions", tmp_path / "own.jsonl", "--image-free", "--json")
    assert scored.code == 0, scored.err
    (card,) = json.loads(scored.out)["cards"]
    assert card["image_free"] is True
    assert card["ceiling"] is None
    assert card["student"]["t2i"]["r5"] == 100.0  # two candidates


def test_lists_and_shows_languages(langadapt) -> None:
    listed = json.loads(langadapt("languages", "list", "--json").out)
    assert {"zh", "sw", "qu"} <= {row["code"] for row in listed}
    shown = langadapt("languages", "show", "sw")
    assert "native_name: Kiswahili" in shown.out
    assert json.loads(langadapt("languages", "show", "sw", "--json").out)["code"] == "sw"


@pytest.mark.parametrize(
    "command", ["distill", "eval", "index", "search", "encode", "quickstart", "prompts", "classify"]
)
def test_help_has_examples(langadapt, command: str) -> None:
    said = langadapt(command, "--help")
    assert said.code == 0
    assert "Example" in said.out
    assert f"langadapt {command}" in said.out
