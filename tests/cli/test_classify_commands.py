"""Classification and learned prompts on the command line."""

import json
from pathlib import Path

import pytest
from tiny_pictures import noise

from langadapt.training import few_shot


@pytest.fixture(autouse=True)
def _short_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROBE", "TIP"):
        short = getattr(few_shot, name).model_copy(update={"steps": 9})
        monkeypatch.setattr(few_shot, name, short)


def class_folder(folder: Path) -> Path:
    for place, name in enumerate(("gato", "perro", "barco")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            picture = noise((40, 32), 60 * place + 9 * number + 5, seed=3 * place + number)
            picture.save(folder / name / f"{number}.png")
    return folder


def test_scores_a_folder_of_classes(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    names = tmp_path / "classes.txt"
    names.write_text("gato\tgato\tcat\nperro\tperro\tdog\nbarco\tbarco\tboat\n", encoding="utf-8")
    done = langadapt(
        "eval", run_folder, "--classify", folder, "--classes", names, "--json-file", tmp_path / "s.json"
    )
    assert done.code == 0, done.err
    (card,) = json.loads((tmp_path / "s.json").read_text())["classifications"]
    assert list(card["rows"]) == ["student, all templates", "teacher, English names", "teacher, raw names"]
    row = card["rows"]["student, all templates"]
    assert f"{row['top1']:.1f}" in done.out
    assert row["signature"].startswith("benchmark:pets|images:9|classes:3|")
    page = (run_folder / "classification.html").read_text(encoding="utf-8")
    assert "Confusion" in page
    assert "perro" in page
    assert (run_folder / "confusion.svg").read_text(encoding="utf-8").startswith("<svg")
    again = langadapt("eval", run_folder, "--classify", folder, "--json")
    assert list(json.loads(again.out)["classifications"][0]["rows"]) == [
        "student, all templates", "teacher, raw names"
    ]  # fmt: skip


def test_misuse_is_one_line(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    for arguments, said in [
        (("--classify", folder, "--image-free"), "--classify stands alone"),
        (("--classes", folder), "give --classify FOLDER"),
        (("--classify", "no-such-set"), "no classification data recipe 'no-such-set'"),
        (("--classify", folder, "--classes", tmp_path / "none.txt"), "none.txt: no such file"),
    ]:
        done = langadapt("eval", run_folder, *arguments)
        assert done.code == 2, done.out
        assert said in done.err
        assert done.err.count("\n") == 1


def test_prompts_are_learned_saved_and_used(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    out = tmp_path / "learned"
    few = (
        "--set",
        "few_shot.steps=2",
        "--shots",
        "2",
        "--images",
        folder,
        "--model",
        run_folder,
        "--out",
        out,
    )
    done = langadapt("prompts", *few, "--json-file", tmp_path / "scores.json")
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert list(rows) == [
        "recipe's prompt", "zero-shot, first template", "zero-shot, all templates", "linear probe",
        "Tip-Adapter", "Tip-Adapter-F", "CoOp (general)", "instance only",
    ]  # fmt: skip
    assert {rows[name]["all"]["signature"].split("|images:")[1].split("|")[0] for name in rows} == {"3"}
    assert "recipe's prompt" in done.out
    assert (out / "prompts.safetensors").stat().st_size < 20_000

    said = langadapt("classify", folder / "gato", folder / "perro" / "0.png", "--prompts", out, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert [Path(item["path"]).parent.name for item in found] == ["gato"] * 3 + ["perro"]
    assert {c["name"] for c in found[0]["classes"]} == {"gato", "perro", "barco"}
    values = [c["score"] for c in found[0]["classes"]]
    assert values == sorted(values, reverse=True)

    scored = langadapt("eval", run_folder, "--classify", folder, "--prompts", out, "--json")
    assert scored.code == 0, scored.err
    card = json.loads(scored.out)["classifications"][0]
    first = next(iter(card["rows"]))
    assert first == "learned prompts"
    right = 0
    for name in ("gato", "perro", "barco"):
        answers = json.loads(langadapt("classify", folder / name, "--prompts", out, "--json").out)
        right += sum(answer["classes"][0]["name"] == name for answer in answers)
    assert card["rows"][first]["top1"] == pytest.approx(100 * right / 9)
    again = langadapt("prompts", *few)
    assert (again.code, "holds learned prompts" in again.err) == (2, True)


def test_base_and_novel_classes_are_scored_apart(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    few = ("prompts", "--set", "few_shot.steps=2", "--set", "few_shot.instance=false", "--shots", "1")
    few = (*few, "--images", folder, "--model", run_folder, "--out", tmp_path / "out")
    few = (*few, "--novel", "--json")
    done = langadapt(*few, "--no-baselines")
    assert done.code == 2, "the second half of three classes is one class"
    assert "has 1 class; there is nothing to choose from" in done.err
    (folder / "casa").mkdir()
    for number in range(3):
        noise((40, 32), 200 + 9 * number, seed=9 + number).save(folder / "casa" / f"{number}.png")
    done = langadapt(*few)
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert set(rows["recipe's prompt"]) == {"seconds", "base", "novel"}
    assert set(rows["linear probe"]) == {"seconds", "base"}, "it knows no class that it has not learned"
    base, novel = (rows["recipe's prompt"][part]["signature"] for part in ("base", "novel"))
    assert base.split("|names:")[1] != novel.split("|names:")[1]


def test_prompt_misuse_is_one_line(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    learn = ("prompts", "--images", folder, "--model", run_folder, "--out", tmp_path / "out")
    for arguments, said in [
        ((*learn, "--shots", "3"), "has 2 images, 3 shots were asked for"),
        ((*learn, "--shots", "1", "--set", "few_shot.layers=2"), "few_shot.layers: unknown key"),
        ((*learn, "--shots", "1", "--tower", "teacher"), "has no English name"),
        (("classify", folder, "--model", run_folder), "one of --prompts DIR and --classes FILE"),
        (("classify", folder, "--prompts", tmp_path), "it is the folder that `langadapt prompts` wrote"),
    ]:
        done = langadapt(*arguments)
        assert done.code == 2, done.out
        assert said in done.err
        assert done.err.strip().count("\n") == 0
        assert not (tmp_path / "out").exists()
