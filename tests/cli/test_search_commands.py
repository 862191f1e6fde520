"""`langadapt index` and `langadapt search` on tiny real models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sealing import reseal

import langadapt as package


@pytest.fixture
def photos(language_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(language_folder / "photos", tmp_path / "photos"))


def refused(outcome, *words: str) -> None:
    assert outcome.code == 2, (outcome.code, outcome.err)
    lines = [line for line in outcome.err.splitlines() if line.startswith("langadapt: ")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in lines[0], (word, lines[0])


def test_index_then_search(langadapt, run_folder: Path, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "index"
    (photos / "bad.jpg").write_text("no picture")
    arguments = ("index", photos, "--model", run_folder, "--index", place, "--json")
    done = langadapt(*arguments, "--export", tmp_path / "rows.parquet")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["images"], said["encoded"], said["search"]) == (12, 12, "exact")
    assert said["failed"] == [{"path": "bad.jpg", "reason": "is not an image of a known kind"}]
    assert json.loads(langadapt(*arguments).out)["encoded"] == 0
    assert {path.suffix for path in photos.iterdir()} == {".png", ".jpg"}

    model = package.load(run_folder)
    files = sorted(photos.glob("*.png"))
    rows = model.encode_images(files)
    table = pq.read_table(tmp_path / "rows.parquet").to_pydict()
    assert table["path"] == [file.name for file in files]
    torch.testing.assert_close(torch.tensor(table["embedding"]), rows)

    texts = ["gato rojo en mar", "perro azul"]
    found = langadapt("search", place, *texts, "--model", run_folder, "--top-k", "4", "--json")
    assert found.code == 0, found.err
    scores = model.encode_text(texts) @ rows.T
    for answer, text, row in zip(json.loads(found.out), texts, scores, strict=True):
        assert answer["query"] == text
        assert [item["path"] for item in answer["images"]] == [str(files[i]) for i in row.topk(4).indices]
        assert [item["score"] for item in answer["images"]] == pytest.approx(
            row.topk(4).values.tolist(), abs=1e-4
        )


def test_search_by_picture(langadapt, run_folder: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "5.png", tmp_path / "asked.png")
    found = langadapt(
        "search", photos, "--image", tmp_path / "asked.png", "--model", run_folder, "--top-k", "50", "--json",
        "--html", tmp_path / "page.html",
    )  # fmt: skip
    assert found.code == 0, found.err
    (answer,) = json.loads(found.out)
    assert answer["image"] == str(tmp_path / "asked.png")
    assert answer["images"][0] == {"path": str(photos / "5.png"), "score": 1.0}
    assert len(answer["images"]) == 12
    assert "all 12 images are shown, 50 were requested" in found.err
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("data:image/jpeg") == 13


def test_the_grid_follows_the_direction_of_the_language(
    langadapt, run_folder: Path, photos: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    (run / "recipe.yaml").write_text(recipe.replace("direction: ltr", "direction: rtl"), encoding="utf-8")
    if "direction" not in recipe:
        (run / "recipe.yaml").write_text(recipe + "direction: rtl\n", encoding="utf-8")
    reseal(run)
    for folder, direction in ((run_folder, "ltr"), (run, "rtl")):
        page = tmp_path / f"{direction}.html"
        # The query begins with Latin letters: its first letters would tell the wrong direction.
        done = langadapt("search", photos, "<b>gato & قط", "--model", folder, "--html", page)
        assert done.code == 0, done.err
        text = page.read_text(encoding="utf-8")
        assert f'<p class="query" dir="{direction}" lang="es">&lt;b&gt;gato &amp; قط</p>' in text
        assert f'<article class="search" dir="{direction}">' in text


def test_what_a_user_can_get_wrong(langadapt, run_folder: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(langadapt("index", tmp_path / "empty", "--model", run_folder), "holds no images")
    refused(langadapt("index", tmp_path / "nowhere", "--model", run_folder), "no such folder")
    refused(langadapt("index", photos, "--model", run_folder, "--export", "a.csv"), "a.csv", ".parquet")
    refused(langadapt("search", photos, "--model", run_folder), "nothing to look for", "--image")
    refused(langadapt("search", photos, "gato", " ", "--model", run_folder), "query is empty")
    refused(langadapt("search", tmp_path / "empty", "gato", "--model", run_folder), "holds no images")
    (tmp_path / "bad.jpg").write_text("no picture")
    refused(langadapt("search", photos, "--image", tmp_path / "bad.jpg", "--model", run_folder), "bad.jpg")
    taken = photos / "0.png"
    refused(langadapt("index", photos, "--model", run_folder, "--index", taken), "0.png", "not a folder")
    place = tmp_path / "index"
    assert langadapt("index", photos, "--model", run_folder, "--index", place).code == 0
    refused(langadapt("search", place, "gato", "--index", place, "--model", run_folder), "leave --index out")
    (place / "index.sqlite").write_bytes(b"x" * 5000)
    refused(langadapt("search", place, "gato", "--model", run_folder), str(place), "--rebuild")


def test_an_index_of_another_teacher_is_refused(
    langadapt, run_folder: Path, photos: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    import safetensors.torch

    from langadapt.models.artifact import read_artifact
    from langadapt.models.load import folder_hash

    place = tmp_path / "index"
    assert langadapt("index", photos, "--model", run_folder, "--index", place).code == 0
    teacher = shutil.copytree(teacher_folder, tmp_path / "teacher")
    weights = safetensors.torch.load_file(teacher / "model.safetensors")
    weights["visual_projection.weight"] = weights["visual_projection.weight"] + 0.01
    safetensors.torch.save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    run = shutil.copytree(run_folder, tmp_path / "run")
    facts = (run / "artifact.json").read_text()
    old = read_artifact(run_folder).teacher
    facts = facts.replace(old.repo, str(teacher)).replace(old.revision, folder_hash(teacher))
    (run / "artifact.json").write_text(facts)
    reseal(run)
    refused(langadapt("search", place, "gato", "--model", run), "another image model", str(place))
    refused(langadapt("index", photos, "--model", run, "--index", place), "another image model")
    again = langadapt("index", photos, "--model", run, "--json")
    assert json.loads(again.out)["encoded"] == 12, "in the cache each image tower has its own index"


def test_encode_writes_parquet(langadapt, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("gato rojo\nperro azul\n", encoding="utf-8")
    for name in ("rows.parquet", "rows.npy"):
        done = langadapt("encode", run_folder, tmp_path / "texts.txt", "--out", tmp_path / name)
        assert done.code == 0, done.err
    table = pq.read_table(tmp_path / "rows.parquet").to_pydict()
    assert (table["id"], table["text"]) == ([0, 1], ["gato rojo", "perro azul"])
    assert np.array_equal(np.float32(table["embedding"]), np.load(tmp_path / "rows.npy"))
    refused(langadapt("encode", run_folder, tmp_path / "texts.txt", "--out", "rows.csv"), ".parquet")


def test_faiss_from_the_asked_number_of_images(langadapt, run_folder: Path, photos: Path) -> None:
    pytest.importorskip("faiss", reason="the extra langadapt[faiss] is not installed")
    for number in range(60):
        Image.new("RGB", (40, 32), (number, 4 * number, 200 - number)).save(photos / f"more-{number}.png")
    done = langadapt("index", photos, "--model", run_folder, "--approximate-from", "50", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["search"], said["approximate"]["rows"]) == ("approximate", 72)
    found = [
        langadapt("search", photos, "gato rojo en mar", "--model", run_folder, "--json", *more)
        for more in ((), ("--exact",))
    ]
    assert "recall@10" in found[0].err.replace("\n", " ")
    assert "recall@10" not in found[1].err
    assert found[0].out == found[1].out
