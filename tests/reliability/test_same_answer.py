"""The same seed gives the same weights; what was scored can be scored again from the artifact alone."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
from tiny_run import run

from langadapt.cli import main


def test_a_seed_gives_the_same_bytes_twice_and_another_seed_others(
    language_folder: Path, tmp_path: Path
) -> None:
    """The caches are not shared: every number is computed again."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            patch.setenv("LANGADAPT_CACHE", str(tmp_path / f"cache-{name}"))
            run(language_folder, tmp_path / name, "distill.epochs=1", f"distill.seed={seed}")
    a, b, c = ((tmp_path / name / "adapter.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    stores = [sorted((tmp_path / f"cache-{name}").rglob("rows.bin")) for name in "ab"]
    assert [path.read_bytes() for path in stores[0]] == [path.read_bytes() for path in stores[1]]
    assert len(stores[0]) >= 2


def test_scores_are_those_of_the_stored_artifact(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(language_folder, tmp_path / "run", "distill.epochs=1")

    def scored(folder: Path, cache: str) -> dict[str, object]:
        monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / cache))
        monkeypatch.setattr(sys, "argv", ["langadapt", "eval", str(folder), "--device", "cpu"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        cards = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["cards"]
        return {card["student"]["signature"]: card for card in cards}

    first = scored(tmp_path / "run", "one")
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (copy / "scores.json").unlink()
    assert scored(copy, "two") == first
    assert all(card["student"]["mr6"] > 0 for card in first.values())  # type: ignore[index]
