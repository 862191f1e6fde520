"""What a user can get wrong: one clear line, exit code 2, no traceback, nothing lost or half-written."""

import importlib
import io
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from sealing import reseal

from langadapt.cli import main


def refused(outcome, *words: str) -> None:
    assert outcome.code == 2, (outcome.code, outcome.err)
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("langadapt: ")]
    assert len(lines) == 1, outcome.err
    for word in words:
        assert word in lines[0], (word, lines[0])


@pytest.fixture
def own(language_folder: Path, tmp_path: Path) -> Path:
    """A copy of the language folder that a test may spoil."""
    return Path(shutil.copytree(language_folder, tmp_path / "own"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_unknown_language_suggests_near_ones(langadapt) -> None:
    refused(langadapt("distill", "--lang", "swz"), "no language 'swz'; near: sw")


def test_neither_language_nor_recipe(langadapt) -> None:
    refused(langadapt("distill"), "--lang", "--recipe")


def test_a_setting_that_is_not_in_the_recipe(langadapt, own: Path) -> None:
    refused(langadapt("distill", "--recipe", own / "es", "--set", "distill.epoch=3"), "did you mean 'epochs'")
    refused(langadapt("distill", "--recipe", own / "es", "--set", "adapter.states=1"), "give 2 or more")
    refused(
        langadapt("distill", "--recipe", own / "es", "--set", "distill.epochs=2.5"), "expected int, got 2.5"
    )
    refused(langadapt("distill", "--recipe", own / "es", "--set", "epochs"), "KEY=VALUE")


def test_missing_data_file(langadapt, own: Path) -> None:
    (own / "parallel.tsv").unlink()
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "parallel.tsv")
    assert not (own / "run").exists()


def test_a_missing_file_is_found_before_other_data_are_read(
    langadapt, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (own / "es-parallel.yaml").read_text(encoding="utf-8")
    (own / "second.yaml").write_text(
        text.replace("parallel.tsv", "second.tsv").replace("es-parallel", "second"), encoding="utf-8"
    )
    edit(own / "es.yaml", "data: [./es-parallel.yaml]", "data: [./es-parallel.yaml, ./second.yaml]")

    def read(*given: object) -> None:
        raise AssertionError("a corpus was read before the missing one was noticed")

    importlib.import_module("langadapt.training.distill")
    monkeypatch.setattr(sys.modules["langadapt.training.distill"], "_corpus", read)
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "second.tsv: no such file")


def test_wrong_column(langadapt, own: Path) -> None:
    edit(own / "parallel.tsv", "english\ttarget", "english\ttargte")
    refused(
        langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "parallel.tsv", "target", "targte"
    )


def test_empty_text(langadapt, own: Path) -> None:
    edit(own / "parallel.tsv", "a red cat at sea\tgato rojo en mar", "a red cat at sea\t ")
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "parallel.tsv", "line 3")


def test_broken_utf8(langadapt, own: Path) -> None:
    raw = (own / "parallel.tsv").read_bytes()
    (own / "parallel.tsv").write_bytes(raw.replace(b"gato", b"g\xe1to", 1))
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "parallel.tsv", "UTF-8")


@pytest.mark.parametrize(
    ("target", "words"),
    [("uno\ndos\n", ("3", "2")), ("uno\n\ntres\n", ("line 2",))],
    ids=["other number of lines", "blank line"],
)
def test_aligned_files_that_are_not(langadapt, own: Path, target: str, words: tuple[str, ...]) -> None:
    (own / "a.en").write_text("one\ntwo\nthree\n")
    (own / "a.es").write_text(target)
    edit(
        own / "es-parallel.yaml",
        "{kind: files, paths: [parallel.tsv]}",
        "{kind: aligned, english: a.en, target: a.es}",
    )
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "a.es", *words)


def test_data_that_must_be_requested(langadapt, own: Path) -> None:
    (own / "parallel.tsv").unlink()
    edit(
        own / "es-parallel.yaml",
        "licence: CC0-1.0",
        "licence: CC0-1.0\naccess: request\nhomepage: https://ask.example",
    )
    refused(
        langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "requested", "https://ask.example"
    )


def test_hub_not_reachable(langadapt, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(
        langadapt(
            "distill", "--recipe", own / "es", "--set", "teacher.repo=nobody/nothing", "--out", own / "run"
        ),
        "nobody/nothing",
        "not in the Hub's cache",
        "--offline",
    )


def test_teacher_without_text_tower(langadapt, own: Path, text_model_folder: Path) -> None:
    done = langadapt(
        "distill", "--recipe", own / "es", "--set", f"teacher.repo={text_model_folder}", "--out", own / "run"
    )
    refused(done, str(text_model_folder), "does not embed texts or images")


def test_loss_that_is_not_finite(langadapt, own: Path) -> None:
    done = langadapt(
        "distill", "--recipe", own / "es", "--out", own / "run", "--set", "distill.learning_rate=1e30",
        "--set", "distill.gradient_clip_norm=1e30",
    )  # fmt: skip
    refused(done, "loss", "learning_rate")
    assert not (own / "run" / "artifact.json").exists()


def test_a_finished_run_is_not_overwritten(langadapt, own: Path) -> None:
    assert (
        langadapt("distill", "--recipe", own / "es", "--out", own / "run", "--set", "distill.epochs=1").code
        == 0
    )
    before = (own / "run" / "adapter.safetensors").read_bytes()
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "finished run", "--overwrite")
    assert (own / "run" / "adapter.safetensors").read_bytes() == before


def test_a_run_without_its_curve_is_completed_and_then_refused(langadapt, own: Path) -> None:
    command = ("distill", "--recipe", own / "es", "--out", own / "run", "--set", "distill.epochs=1", "--json")
    first = langadapt(*command)
    assert first.code == 0, first.err
    curve = (own / "run" / "curve.svg").read_bytes()
    (own / "run" / "curve.svg").unlink()
    again = langadapt(*command)
    assert (again.code, again.out) == (0, first.out), again.err
    assert (own / "run" / "curve.svg").read_bytes() == curve
    refused(langadapt(*command), "finished run")


def test_an_index_that_is_refused_leaves_nothing_among_the_photos(
    langadapt, run_folder: Path, own: Path
) -> None:
    photos = own / "photos"
    before = sorted(photos.iterdir())
    refused(langadapt("index", photos, "--model", run_folder, "--index", photos), "holds other files")
    refused(langadapt("index", photos, "--model", run_folder, "--index", photos, "--rebuild"), "other files")
    assert sorted(photos.iterdir()) == before


def test_missing_and_broken_images(langadapt, run_folder: Path, own: Path) -> None:
    set_of_its_own = own / "es-test.yaml"
    page = own / "page.html"
    (own / "photos" / "3.png").unlink()
    refused(langadapt("eval", run_folder, "--on", set_of_its_own, "--html", page), "3.png")
    Image.new("RGB", (64, 64), (9, 9, 9)).save(own / "photos" / "3.jpg")
    whole = (own / "photos" / "3.jpg").read_bytes()
    (own / "photos" / "3.png").write_bytes(whole[: len(whole) // 2])
    refused(langadapt("eval", run_folder, "--on", set_of_its_own, "--html", page), "3.png")
    assert not page.exists()


def test_not_a_run_folder(langadapt, tmp_path: Path) -> None:
    refused(langadapt("eval", tmp_path), str(tmp_path), "artifact.json")
    refused(langadapt("eval", tmp_path / "nowhere"), "no such artifact folder")


def test_empty_lines_and_queries(langadapt, run_folder: Path, own: Path) -> None:
    (own / "texts.txt").write_text("uno\n\ntres\n")
    refused(langadapt("encode", run_folder, own / "texts.txt", "--json"), "texts.txt", "line 2")
    refused(langadapt("search", own / "photos", " ", "--model", run_folder), "query is empty")
    (own / "empty").mkdir()
    refused(langadapt("search", own / "empty", "gato", "--model", run_folder), "empty")


def test_test_sets_that_are_not_here(langadapt, run_folder: Path, own: Path) -> None:
    spoiled = shutil.copytree(run_folder, own / "run")
    edit(spoiled / "recipe.yaml", "evaluate:\n", "evaluate:\n- coco-cn-test\n")
    reseal(spoiled)
    scored = langadapt("eval", spoiled, "--json")
    assert scored.code == 0, scored.err
    assert "not scored: " in scored.err
    assert "coco-cn-test" in scored.err.replace("\n", "")
    assert '"es-test"' in scored.out
    refused(langadapt("eval", spoiled, "--on", "coco-cn-test"), "LANGADAPT_DATA")


def test_devices_that_are_not_here(langadapt, run_folder: Path, own: Path) -> None:
    refused(langadapt("distill", "--recipe", own / "es", "--device", "toaster"), "--device toaster")
    refused(langadapt("eval", run_folder, "--device", "cuda:77"), "--device cuda:77")


def test_data_of_another_language(langadapt, own: Path) -> None:
    edit(own / "es-parallel.yaml", "language: es", "language: pt")
    refused(langadapt("distill", "--recipe", own / "es", "--out", own / "run"), "es-parallel", "'pt'", "'es'")


def test_truncated_base_model(langadapt, own: Path, teacher_folder: Path) -> None:
    copy = shutil.copytree(teacher_folder, own / "teacher")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    done = langadapt("distill", "--recipe", own / "es", "--set", f"teacher.repo={copy}", "--out", own / "run")
    refused(done, str(copy), "damaged or cut off")


def test_a_language_that_the_embedded_world_does_not_speak(langadapt, tmp_path: Path) -> None:
    refused(langadapt("quickstart", "--lang", "fr", "--folder", tmp_path / "world"), "ar, de, sw, zh")
    assert not (tmp_path / "world").exists()


@pytest.mark.parametrize(
    "name", ["runs/typo", "./typo", "/nowhere/typo", "~/typo", "here/typo", "a/b/c", "typo"]
)
def test_what_looks_like_a_path_is_not_sought_on_the_hub(
    langadapt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def download(*arguments: object, **options: object) -> str:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("langadapt.files.fetch.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    refused(langadapt("eval", name), name, "no such artifact folder")
    refused(langadapt("tune", "--from", name, "--pairs", "a.tsv"), "typo" if "typo" in name else name)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("x\ny\n")
    classify = ("classify", tmp_path, "--model", name, "--classes", "a.txt")
    refused(langadapt(*classify), name, "no such artifact folder")
    (tmp_path / "a.tsv").write_text("image\tcaption\na.jpg\ta dog\n")
    model = (
        "align",
        "--image-model",
        name,
        "--text-model",
        name,
        "--pairs",
        "a.tsv",
        "--out",
        tmp_path / "out",
    )
    refused(langadapt(*model), "no such model folder")
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_goes_and_a_folder_where_a_file_goes(
    langadapt, run_folder: Path, own: Path
) -> None:
    (own / "file").write_text("mine")
    folder, photos = own / "folder", own / "photos"
    folder.mkdir()
    for out in (own / "file", own / "file" / "below"):
        refused(langadapt("distill", "--recipe", own / "es", "--out", out), "file: is a file")
        refused(langadapt("export", run_folder, "--format", "onnx", "--out", out), "file: is a file")
        refused(langadapt("data", "build", "--lang", own / "es", "--out", out), "file: is a file")
        refused(langadapt("publish", run_folder, "--out", out), "file: is a file")
        refused(langadapt("eval", run_folder, "--html", out / "page.html"), "file: is a file")
    refused(langadapt("eval", run_folder, "--html", folder), "folder: is a folder")
    refused(langadapt("eval", run_folder, "--json-file", folder), "folder: is a folder")
    refused(langadapt("search", photos, "gato", "--model", run_folder, "--html", folder), "is a folder")
    assert (own / "file").read_text() == "mine"
    assert not list(folder.iterdir())


def test_numbers_that_no_machine_can_use(langadapt, own: Path) -> None:
    done = langadapt("distill", "--recipe", own / "es", "--set", "distill.batch_size=99999999999")
    refused(done, "batch_size", "1000000")
    done = langadapt("data", "build", "--lang", own / "es", "--workers", "-3", "--out", own / "built")
    assert done.code == 2
    assert "--workers" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("repo", ["me/clip zh", "me/../x", "me/", "me", "me/a/b", "me/clip-zh.git"])
def test_a_name_that_the_hub_refuses_is_refused_in_a_dry_run(langadapt, run_folder: Path, repo: str) -> None:
    refused(langadapt("publish", run_folder, "--repo", repo, "--dry-run"), f"--repo {repo}: ")


def test_a_terminal_without_the_letters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["langadapt", "languages", "show", "zh"])
    with pytest.raises(SystemExit) as stop:
        main()
    sys.stdout.flush()
    assert not stop.value.code
    assert b"native_name: \\u4e2d\\u6587" in raw.getvalue()


@pytest.mark.parametrize("text", ["[/INST]", "[red]x[/]", "[bold"])
def test_brackets_of_a_user_are_no_markup(langadapt, text: str) -> None:
    for command in ((text,), ("eval", f"./{text}"), ("distill", "--lang", text)):
        done = langadapt(*command)
        assert done.code == 2
        assert text in done.err
        assert "Traceback" not in done.err
