"""Classification on the command line."""

import json
from pathlib import Path

from PIL import Image


def class_folder(folder: Path) -> Path:
    for place, name in enumerate(("gato", "perro", "barco")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.effect_noise((40, 32), 60 * place + 9 * number + 5).convert("RGB").save(
                folder / name / f"{number}.png"
            )
    return folder


def test_scores_a_folder_of_classes(langadapt, run_folder: Path, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "pets")
    names = tmp_path / "classes.txt"
    names.write_text("gato\tgato\tcat\nperro\tperro\tdog\nbarco\tbarco\tboat\n", encoding="utf-8")
    done = langadapt(
        "eval", run_folder, "--classify", folder, "--classes", names, "--json", tmp_path / "s.json"
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
    again = langadapt("eval", run_folder, "--classify", folder, "--json", "-")
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
