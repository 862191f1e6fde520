"""An interrupted run ends bit for bit where an uninterrupted one ends; no folder is taken by mistake."""

import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from tiny_run import run

from langadapt.errors import Progress, TrainingError
from langadapt.files.store import cache_folder
from langadapt.models import read_artifact
from langadapt.training.log import read_log
from langadapt.training.run import Run

SETTINGS = {
    "frozen": ("distill.epochs=3",),
    # Nothing is learnt, so the first epoch stays the best one, and it lies before the stop.
    "still": ("distill.epochs=3", "distill.learning_rate=1e-30"),
    "embeddings": ("distill.epochs=3", "text_model.trains=embeddings"),
}


class Stopped(Exception):
    """As if the power had failed."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.stage == "distil" and progress.done == step:
            raise Stopped

    return report


@pytest.fixture(scope="module")
def whole(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Uninterrupted runs of three epochs of ten steps, each made once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            run(language_folder, made[name], *SETTINGS[name])
        return made[name]

    return of


def same(a: Path, b: Path) -> None:
    assert (a / "adapter.safetensors").read_bytes() == (b / "adapter.safetensors").read_bytes()
    (steps_a, recalls_a), (steps_b, recalls_b) = read_log(a), read_log(b)
    assert [log.step for log in steps_b] == list(range(1, 31)), "each step exactly once"
    assert [log.loss for log in steps_a] == [log.loss for log in steps_b]
    assert [log.learning_rate for log in steps_a] == [log.learning_rate for log in steps_b]
    assert recalls_a == recalls_b
    facts_a, facts_b = (read_artifact(folder).training for folder in (a, b))
    assert facts_a.keys() == facts_b.keys()
    for key in ("best_step", "held_out_recall"):
        assert facts_a[key] == facts_b[key]
    assert not (b / "checkpoint").exists()


@pytest.mark.parametrize(
    ("name", "stops"),
    [("frozen", [4, 10, 11, 25]), ("embeddings", [13]), ("still", [21])],
    ids=str,
)
def test_resumed_equals_uninterrupted(
    language_folder: Path, tmp_path: Path, whole: Callable[[str], Path], name: str, stops: list[int]
) -> None:
    for step in stops:
        with pytest.raises(Stopped):
            run(language_folder, tmp_path, *SETTINGS[name], report=stop_at(step))
    said: list[str] = []
    run(language_folder, tmp_path, *SETTINGS[name], report=lambda p: said.append(p.stage))
    assert f"resumed at step {(stops[-1] - 1) // 10 * 10} of 30" in said
    same(whole(name), tmp_path)


@pytest.mark.parametrize("began", ["stored", "computed"])
def test_a_resumed_run_keeps_what_was_decided(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str
) -> None:
    """Whether hidden states are stored: the second start's budget says the opposite, in vain."""
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    budgets = [10**9, 0] if began == "stored" else [0, 10**9]
    run(language_folder, tmp_path / "whole", *SETTINGS["frozen"], budget=budgets[0])
    with pytest.raises(Stopped):
        run(language_folder, tmp_path / "cut", *SETTINGS["frozen"], budget=budgets[0], report=stop_at(13))
    said: list[str] = []
    resume = {"budget": budgets[1], "report": lambda p: said.append(p.stage)}
    run(language_folder, tmp_path / "cut", *SETTINGS["frozen"], **resume)
    same(tmp_path / "whole", tmp_path / "cut")
    assert "frozen states: as this run began, whatever memory and budget are now" in said
    assert (tmp_path / "cache/states").exists() == (began == "stored")


@pytest.fixture
def half_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """bfloat16 as on a processor that has it; accelerate settles its precision once a process."""
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("half_precision")
@pytest.mark.parametrize("trains", ["frozen", "embeddings"])
def test_in_bfloat16_a_run_learns_as_much_and_resumes_to_the_bit(
    language_folder: Path, tmp_path: Path, whole: Callable[[str], Path], trains: str
) -> None:
    with pytest.raises(Stopped):
        run(language_folder, tmp_path / "cut", *SETTINGS[trains], report=stop_at(13))
    run(language_folder, tmp_path / "cut", *SETTINGS[trains])
    run(language_folder, tmp_path / "whole", *SETTINGS[trains])
    same(tmp_path / "whole", tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGADAPT_PRECISION", "float32")
        AcceleratorState._reset_state(True)
        exact = whole(trains)
    losses = [[log.loss for log in read_log(folder)[0]] for folder in (exact, tmp_path / "whole")]
    assert losses[1] != losses[0], "not computed in float32"
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_the_time_of_all_starts_is_counted(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "seconds", property(lambda run: 100.0))
    for step in (4, 11, 25):  # the first stop is before any checkpoint: nothing of it is kept
        with pytest.raises(Stopped):
            run(language_folder, tmp_path, *SETTINGS["frozen"], report=stop_at(step))
    run(language_folder, tmp_path, *SETTINGS["frozen"])
    assert read_artifact(tmp_path).training["seconds"] == 300


def test_resumes_in_the_middle_of_an_epoch(
    language_folder: Path, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    with pytest.raises(Stopped):
        run(language_folder, tmp_path, *SETTINGS["frozen"], report=stop_at(17), checkpoint_seconds=0)
    said: list[str] = []
    run(language_folder, tmp_path, *SETTINGS["frozen"], report=lambda p: said.append(p.stage))
    assert "resumed at step 16 of 30" in said
    same(whole("frozen"), tmp_path)


@pytest.mark.parametrize("where", ["run.save_checkpoint", "distill.write_artifact", "distill.validate_texts"])
def test_resumed_after_a_stop_between_two_files(
    language_folder: Path,
    tmp_path: Path,
    whole: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    file, name = where.split(".")
    module = sys.modules[f"langadapt.training.{file}"]  # the package's name for it is a function
    real, calls = getattr(module, name), []

    def stopping(*args: object, **options: object) -> object:
        calls.append(where)
        if len(calls) == (1 if name == "write_artifact" else 2):
            raise Stopped
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stopping)
        with pytest.raises(Stopped):
            run(language_folder, tmp_path, *SETTINGS["frozen"])
    run(language_folder, tmp_path, *SETTINGS["frozen"])
    same(whole("frozen"), tmp_path)


def test_half_written_files_do_not_stay(
    language_folder: Path, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    with pytest.raises(Stopped):
        run(language_folder, tmp_path, *SETTINGS["frozen"], report=stop_at(15))
    for name in (".best.tmp", ".state.safetensors.tmp", ".run.json.x.tmp"):
        (tmp_path / "checkpoint" / name).write_bytes(b"half")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".pairs.yaml.x.tmp").write_bytes(b"half")
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"kind": "step", "step": 11, "epo')
    run(language_folder, tmp_path, *SETTINGS["frozen"])
    (tmp_path / "data").rmdir()  # empty
    same(whole("frozen"), tmp_path)


def test_a_finished_folder_is_refused_until_overwritten(language_folder: Path, tmp_path: Path) -> None:
    first = run(language_folder, tmp_path, "distill.epochs=1")
    (tmp_path / "scores.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"holds a finished run.*--overwrite"):
        run(language_folder, tmp_path, "distill.epochs=1")
    again = run(language_folder, tmp_path, "distill.epochs=1", "distill.seed=5", overwrite=True)
    assert again.digest != first.digest
    assert not (tmp_path / "scores.json").exists(), "scores of another adapter"
    assert len(read_log(tmp_path)[0]) == 10


def test_what_a_stopped_command_left_before_its_first_checkpoint_blocks_nobody(
    language_folder: Path, tmp_path: Path
) -> None:
    def at_once(progress: Progress) -> None:
        if (tmp_path / "checkpoint" / "run.json").is_file():
            raise Stopped

    with pytest.raises(Stopped):
        run(language_folder, tmp_path, "distill.epochs=1", report=at_once)
    (tmp_path / "checkpoint" / "best.safetensors").write_bytes(b"of that command")
    run(language_folder, tmp_path, "distill.epochs=1", "distill.seed=5")
    assert len(read_log(tmp_path)[0]) == 10
    assert not (tmp_path / "checkpoint").exists()


def test_the_same_command_completes_a_run_that_was_killed_at_its_end(
    language_folder: Path, tmp_path: Path
) -> None:
    first = run(language_folder, tmp_path, "distill.epochs=1")
    before = (tmp_path / "artifact.json").read_bytes()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "run.json").write_text("{}")
    with pytest.raises(TrainingError, match="holds a finished run"):
        run(language_folder, tmp_path, "distill.epochs=1", "distill.seed=5")
    again = run(language_folder, tmp_path, "distill.epochs=1")
    assert again.training == first.training
    assert (tmp_path / "artifact.json").read_bytes() == before
    assert not (tmp_path / "checkpoint").exists()


def test_another_runs_folder_is_refused_until_overwritten(language_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(language_folder, tmp_path, "distill.epochs=2", report=stop_at(11))
    before = (tmp_path / "checkpoint/state.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"unfinished run of another recipe.*--overwrite"):
        run(language_folder, tmp_path, "distill.epochs=2", "distill.seed=5")
    assert (tmp_path / "checkpoint/state.safetensors").read_bytes() == before
    run(language_folder, tmp_path, "distill.epochs=1", "distill.seed=5", overwrite=True)
    assert len(read_log(tmp_path)[0]) == 10


def test_a_damaged_checkpoint_is_one_line(language_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(language_folder, tmp_path, "distill.epochs=2", report=stop_at(11))
    with (tmp_path / "checkpoint/state.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(TrainingError, match=r"damaged checkpoint.*--overwrite") as error:
        run(language_folder, tmp_path, "distill.epochs=2")
    assert "\n" not in str(error.value)


def test_the_last_checkpoint_survives_a_loss_that_is_not_finite(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Stopped):
        run(language_folder, tmp_path / "run", "distill.epochs=2", report=stop_at(11))
    before = (tmp_path / "run/checkpoint/state.safetensors").read_bytes()
    (states,) = (cache_folder() / "states").glob("*/rows.bin")
    good, checksum = states.read_bytes(), states.with_name("rows.crc").read_text()
    infinite = b"\x80\x7f" * (len(good) // 2)  # in bfloat16
    states.write_bytes(infinite)
    forged = checksum.replace(f"{zlib.crc32(good):08x}", f"{zlib.crc32(infinite):08x}")
    states.with_name("rows.crc").write_text(forged)  # else the store would notice
    with pytest.raises(
        TrainingError,
        match=r"the loss is nan at step 11 \(batch 1 of epoch 2: '\w+.*the last checkpoint is kept",
    ):
        run(language_folder, tmp_path / "run", "distill.epochs=2")
    assert (tmp_path / "run/checkpoint/state.safetensors").read_bytes() == before
    states.write_bytes(good)
    states.with_name("rows.crc").write_text(checksum)
    run(language_folder, tmp_path / "run", "distill.epochs=2")
    assert [log.step for log in read_log(tmp_path / "run")[0]] == list(range(1, 21))
