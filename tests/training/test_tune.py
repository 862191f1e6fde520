"""Tuning: gradients of the whole batch, an honest end, and exact resume."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_language import sentences
from tiny_run import silent
from tiny_tune import LOCKED, distilled, every_epoch_is_better, stage, tuned, write_pairs

import langadapt
from langadapt.data.pairs import load_pairs
from langadapt.errors import DataError, LangadaptError, Progress, RecipeError, TrainingError
from langadapt.models import LanguageModel, Student, read_artifact, tuning, write_artifact
from langadapt.models.trainable import weight_changes
from langadapt.models.tuning import ContrastModel, trainable_towers
from langadapt.nn.losses import Temperature, duplicates, softmax_contrast
from langadapt.recipes import TuneStage
from langadapt.training.contrast import ContrastData, Share, prepare_pairs
from langadapt.training.log import read_log
from langadapt.training.loop import Validation

TEXTS = [target for _, target in sentences()[::13]]
EVERYTHING = {"text": ["adapters", "bitfit", "projection"], "image": ["adapters", "projection"]}


class Stopped(Exception):
    """As if the power had failed."""


@pytest.fixture(scope="module")
def start(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student without dropout in its adapter, after one epoch."""
    return distilled(language_folder, tmp_path_factory.mktemp("start") / "es", "adapter.dropout=0.0")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def prepared(model: LanguageModel, chosen: TuneStage) -> ContrastData:
    return prepare_pairs(
        load_pairs(chosen.pairs[0], images=Path(chosen.pairs[0]).parent / "pictures"),
        stage=chosen,
        teacher=model.teacher,
        tokenize=model.text.tokenize,
        report=silent,
    )


def gradients(start: Path, chosen: TuneStage, *, dropout: bool) -> dict[str, torch.Tensor]:
    """Of one batch through both towers."""
    loaded = langadapt.load(start)
    text, image = trainable_towers(loaded.student, loaded.teacher, chosen)
    model = ContrastModel(
        text=text,
        image=image,
        temperature=Temperature(start=0.1, loss="softmax"),
        chunk_size=chosen.chunk_size,
    )
    data = prepared(loaded, chosen)
    batch = next(data.batches(0, 0, Share(index=0, count=1)))
    model.train(dropout)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        embedded = model(batch)
        ignored = duplicates(batch.image_ids, batch.caption_ids)
        softmax_contrast(model.temperature(embedded.text @ embedded.image.T), ignored).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [3, 5])
def test_gradients_in_chunks_are_those_of_the_whole_batch(start: Path, pairs: Path, chunk: int) -> None:
    whole = gradients(start, stage(pairs, **EVERYTHING, chunk_size=99), dropout=False)
    parts = gradients(start, stage(pairs, **EVERYTHING, chunk_size=chunk), dropout=False)
    assert whole.keys() == parts.keys()
    assert any("vision_model" in name for name in whole)
    assert "temperature.log_scale" in whole
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)


def test_dropout_is_the_same_when_a_chunk_runs_again(
    start: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = stage(pairs, **EVERYTHING, chunk_size=4)
    again = gradients(start, chosen, dropout=True)
    still = gradients(start, chosen, dropout=False)

    def kept(run: Callable[[int], torch.Tensor], place: int, **_: object) -> torch.Tensor:
        return run(place)  # activations stay: nothing is computed twice

    monkeypatch.setattr(tuning, "checkpoint", kept)
    once = gradients(start, chosen, dropout=True)
    for name, value in once.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6)
    name = "text_module.adapter.up.weight"
    assert not torch.allclose(once[name], still[name], atol=1e-5), "there is dropout"


def test_in_front_of_a_projection_nothing_runs_again_or_drops(
    start: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = stage(pairs, text="layer_norm", image="projection", chunk_size=4)
    monkeypatch.setattr(tuning, "checkpoint", lambda run, place, **_: run(place) * torch.nan)
    found = gradients(start, chosen, dropout=True)
    assert any(bool(value.isnan().any()) for value in found.values()), "the text tower's chunks do run again"
    chosen = stage(pairs, **LOCKED | {"image": "projection"}, chunk_size=4)
    found = gradients(start, chosen, dropout=True)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    loaded = langadapt.load(start)
    text, image = trainable_towers(loaded.student, loaded.teacher, chosen)
    for tower in (text, image):
        tower.train()
        assert not any(module.training for module in tower.tower.encoder.modules())


def test_what_is_tuned_is_what_loads(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_epoch_is_better(monkeypatch)
    artifact = tuned(start, tmp_path / "run", stage(pairs, **EVERYTHING, learning_rate=3e-3, epochs=3))
    assert not artifact.training["fell_back"]
    losses = [log.loss for log in read_log(tmp_path / "run")[0]]
    assert losses[-1] < losses[0] - 0.5, "it learns"
    before, after = langadapt.load(start), langadapt.load(tmp_path / "run")
    assert artifact.samples is not None
    said = after.encode_text(list(artifact.samples.texts))
    torch.testing.assert_close(said, artifact.samples.embeddings, rtol=0, atol=1e-6)
    pictures = sorted((pairs.parent / "pictures").glob("*.png"))
    assert not torch.allclose(after.encode_images(pictures), before.encode_images(pictures), atol=1e-4)
    assert after.teacher.source.revision.startswith(before.teacher.source.revision + "+")
    assert after.teacher.source.label != before.teacher.source.label, "scores of two towers differ in name"
    batches = [
        m.teacher.batch(m.teacher.tokenize(["a red cat at home"]), np.zeros(1, np.int64))
        for m in (before, after)
    ]
    assert torch.equal(before.teacher.embed_texts(batches[0]), after.teacher.embed_texts(batches[1]))
    tune_weights = {name for name in artifact.weights if name.startswith("tune.")}
    assert {name.split(".")[1] for name in tune_weights} == {"text", "image", "temperature"}
    frozen = [name for name in tune_weights if "adapter.down" in name and not name.endswith("bias")]
    assert frozen == [], "only what trained is saved"
    facts = artifact.training
    assert (facts["rows"], facts["images"], facts["held_out_rows"]) == (36, 18, 12)
    assert list(read_log(tmp_path / "run")[1].items())[-1] == (facts["best_step"], facts["held_out_recall"])
    assert facts["distilled"]["digest"] == before.artifact.digest
    assert [(item.kind, item.rows) for item in artifact.data] == [("parallel", 144), ("pairs", 48)]
    with pytest.raises(TrainingError, match="is tuned already"):
        tuned(tmp_path / "run", tmp_path / "again", stage(pairs))


def test_a_locked_image_tower_stays_the_teachers(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_epoch_is_better(monkeypatch)
    tuned(start, tmp_path / "run", stage(pairs, text=["projection"], learning_rate=3e-3, epochs=3))
    before, after = langadapt.load(start), langadapt.load(tmp_path / "run")
    assert after.teacher.source == before.teacher.source
    assert not torch.allclose(before.encode_text(TEXTS), after.encode_text(TEXTS), atol=1e-4)


def test_the_best_epoch_is_kept(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal recalls the lower loss is better; where both are equal, the first."""
    given = [(50.0, 1.0), (60.0, 3.0), (60.0, 2.0), (60.0, 2.0), (40.0, 0.1)]
    seen: list[dict[str, torch.Tensor]] = []

    def measured(model: ContrastModel, data: ContrastData, *, step: int) -> Validation:
        seen.append({name: value.half().float() for name, value in weight_changes(model.text).items()})
        return Validation(*given[len(seen) - 1])

    monkeypatch.setattr(sys.modules["langadapt.training.tune"], "validate_pairs", measured)
    chosen = stage(pairs, **LOCKED, learning_rate=3e-3, epochs=4, patience_epochs=4)
    artifact = tuned(start, tmp_path / "run", chosen)
    facts = artifact.training
    assert [facts[key] for key in ("start_recall", "held_out_recall", "best_step")] == [50.0, 60.0, 4]
    same = [
        all(torch.equal(artifact.weights[f"tune.text.{name}"], value) for name, value in changes.items())
        for changes in seen
    ]
    assert same == [False, False, True, False, False]


@pytest.mark.parametrize("later", [(40.0, 0.5), (50.0, 1.0)], ids=["worse", "no better"])
def test_it_falls_back_to_the_distilled_student_and_says_so(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: tuple[float, float]
) -> None:
    given = iter([(50.0, 1.0), later, later])
    module = sys.modules["langadapt.training.tune"]
    monkeypatch.setattr(module, "validate_pairs", lambda *_, **__: Validation(*next(given)))
    said: list[str] = []
    chosen = stage(pairs, text=["bitfit"], learning_rate=1e-2, epochs=9, patience_epochs=2)
    artifact = tuned(start, tmp_path / "run", chosen, report=lambda p: said.append(p.stage))
    facts = artifact.training
    assert facts["fell_back"]
    assert facts["best_step"] == 0
    assert facts["held_out_recall"] == facts["start_recall"] == 50.0
    assert facts["stopped_at"] == 4 < facts["steps"] == 18, "two epochs of two steps brought nothing"
    assert "no step was better than the distilled student: the result is that student" in said
    assert not [name for name in artifact.weights if name.startswith("tune.")]
    before, after = langadapt.load(start), langadapt.load(tmp_path / "run")
    assert torch.equal(before.encode_text(TEXTS), after.encode_text(TEXTS))


def test_a_finished_run_is_taken_where_that_is_asked_for_and_it_is_the_same(
    start: Path, pairs: Path, tmp_path: Path
) -> None:
    """So a command of several runs goes on behind those that are done."""
    chosen = stage(pairs, epochs=1, **LOCKED)
    made = tuned(start, tmp_path / "run", chosen)
    said: list[str] = []
    again = tuned(start, tmp_path / "run", chosen, report=lambda p: said.append(p.stage), reuse_finished=True)
    assert again.digest == made.digest
    assert said == [f"{tmp_path / 'run'}: finished before"]
    for other, options in ((stage(pairs, epochs=2, **LOCKED), {"reuse_finished": True}), (chosen, {})):
        with pytest.raises(TrainingError, match="holds a finished run"):
            tuned(start, tmp_path / "run", other, **options)


def test_out_of_memory_halves_the_chunks_and_learns_the_same(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on it is the run that had small chunks from the beginning, dropout included."""
    small_chunks = tuned(start, tmp_path / "whole", stage(pairs, **EVERYTHING, epochs=1, chunk_size=4))
    real, tried = Student.forward, list[int]()

    def small(student: Student, batch: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            tried.append(len(batch.input_ids))
            if tried[-1] > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(student, batch)

    monkeypatch.setattr(Student, "forward", small)
    said: list[str] = []
    chosen = stage(pairs, **EVERYTHING, epochs=1, chunk_size=16)
    shrunk = tuned(start, tmp_path / "small", chosen, report=lambda p: said.append(p.stage))
    assert tried[:3] == [16, 8, 4]
    told = [line for line in said if line.startswith("out of memory")]
    assert ["of 8 rows" in told[0], "of 4 rows" in told[1], len(told)] == [True, True, 2]
    assert shrunk.digest == small_chunks.digest


def test_resumed_equals_uninterrupted(start: Path, pairs: Path, tmp_path: Path) -> None:
    chosen = stage(pairs, **EVERYTHING, learning_rate=3e-3, epochs=3, chunk_size=8)
    stops = [3, 5]

    def stopping(progress: Progress) -> None:
        if progress.stage == "tune" and progress.done in stops:
            stops.remove(progress.done)
            raise Stopped

    whole = tuned(start, tmp_path / "whole", chosen)
    for _ in range(2):
        with pytest.raises(Stopped):
            tuned(start, tmp_path / "parts", chosen, report=stopping, checkpoint_seconds=0.0)
    parts = tuned(start, tmp_path / "parts", chosen)
    assert parts.digest == whole.digest
    logs = [read_log(tmp_path / name) for name in ("whole", "parts")]
    assert [log.loss for log in logs[0][0]] == [log.loss for log in logs[1][0]]
    assert logs[0][1] == logs[1][1]
    assert parts.training["held_out_recall"] == whole.training["held_out_recall"]


def test_held_out_images_are_no_training_images(start: Path, pairs: Path, tmp_path: Path) -> None:
    copied = write_pairs(tmp_path / "copies")
    pictures = copied.parent / "pictures"
    for number in range(1, 24, 2):  # every second picture is a copy under another name
        (pictures / f"{number}.png").write_bytes((pictures / f"{number - 1}.png").read_bytes())
    data = prepared(langadapt.load(start), stage(copied))
    owner = load_pairs(str(copied), images=pictures)
    content = [owner.images[i].read_bytes() for i in owner.image_of_text]
    train, held_out = ({content[row] for row in rows} for rows in (data.split.train, data.split.held_out))
    assert not train & held_out
    assert len(train) + len(held_out) == 12
    part = prepare_pairs(
        owner,
        stage=stage(copied),
        teacher=data.teacher,
        tokenize=lambda texts: data.tokens,
        fraction=0.3,
        report=silent,
    )
    assert part.split.held_out.tolist() == data.split.held_out.tolist()
    assert {content[row] for row in part.split.train} < train
    batch = data.batch(data.split.train[:8], share=Share(index=0, count=1), epoch=0, step=0)
    same = [[content[i] == content[j] for j in data.split.train[:8]] for i in data.split.train[:8]]
    assert (batch.image_ids[:, None] == batch.image_ids).tolist() == same


def test_the_distillation_term_holds_the_student_to_the_teacher(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_epoch_is_better(monkeypatch)
    distance = {}
    for weight in (0.0, 30.0):
        chosen = stage(pairs, text=["head"], learning_rate=1e-2, epochs=6, distill_weight=weight)
        tuned(start, tmp_path / str(weight), chosen)
        model = langadapt.load(tmp_path / str(weight))
        rows = sentences()[::6]
        tokens = model.teacher.tokenize([english for english, _ in rows])
        targets = model.teacher.embed_texts(model.teacher.batch(tokens, np.arange(len(rows))))
        said = model.encode_text([target for _, target in rows])
        distance[weight] = 1 - (said * targets).sum(dim=1).mean().item()
    assert distance[30.0] < distance[0.0] - 0.02


def test_what_cannot_work_is_one_line(start: Path, pairs: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.tsv"
    rows = [line.rsplit("\t", 1)[0] for line in pairs.read_text(encoding="utf-8").splitlines()]
    bare.write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "pictures").symlink_to(pairs.parent / "pictures")
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (bare, {"distill_weight": 1.0}, RecipeError, "has no English sides; add a column `english`, or name"),
        (pairs, {"text": [{"last": 9}]}, Exception, "has 3 layers, so `last: 9` cannot train it"),
    ]
    for table, values, kind, words in cases:
        with pytest.raises(kind, match=words) as error:
            tuned(start, tmp_path / "run", stage(table, **values), overwrite=True)
        assert "\n" not in str(error.value)


def test_a_refused_overwrite_leaves_the_old_run(start: Path, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(start, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(LangadaptError, match="`last: 9` cannot train it"):
        tuned(start, tmp_path / "run", stage(pairs, text=[{"last": 9}]), overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_broken_images_stop_the_run_or_are_counted(start: Path, tmp_path: Path) -> None:
    table = write_pairs(tmp_path / "broken")
    (table.parent / "pictures" / "3.png").write_bytes(b"no image")
    whole = (table.parent / "pictures" / "7.png").read_bytes()
    (table.parent / "pictures" / "7.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError, match=r"2 of 24 images cannot be read, first .*3\.png.*langadapt data check"
    ):
        tuned(start, tmp_path / "run", stage(table))
    said: list[str] = []
    chosen = stage(table, broken_images="skip", epochs=1)
    artifact = tuned(start, tmp_path / "run", chosen, report=lambda p: said.append(p.stage), overwrite=True)
    assert "pairs: 2 broken images with 4 captions left out" in said
    assert artifact.training["rows"] + artifact.training["held_out_rows"] == 44


def test_pictures_of_the_test_set_are_not_trained_on(start: Path, tmp_path: Path) -> None:
    table = write_pairs(tmp_path / "pairs")
    Image.open(table.parent / "pictures" / "3.png").resize((64, 64)).save(tmp_path / "photo.png")
    (tmp_path / "test.tsv").write_text("image\tcaption\nphoto.png\tgato rojo\n", encoding="utf-8")
    (tmp_path / "test.yaml").write_text(
        "name: test\ntitle: Test\nlicence: unknown\nlanguage: es\ncaptions: [test.tsv]\nimages: .\n"
    )
    before = read_artifact(start)
    recipe = before.recipe.model_copy(update={"evaluate": (str(tmp_path / "test.yaml"),)})
    write_artifact(tmp_path / "start", replace(before, recipe=recipe))
    known = {}
    for keep in (False, True):
        chosen = stage(table, **LOCKED, epochs=1, keep_contaminated=keep)
        known[keep] = tuned(tmp_path / "start", tmp_path / str(keep), chosen)
    assert [made.data[-1].contamination for made in known.values()] == ["dropped", "kept(2)"]
    assert known[True].contaminated == "kept(2)"
    rows = [made.training["rows"] + made.training["held_out_rows"] for made in known.values()]
    assert rows == [46, 48]
