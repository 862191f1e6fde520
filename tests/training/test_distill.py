"""Distillation from end to end on tiny real models."""

import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_language import sentences
from tiny_run import run, weights

import langadapt
from langadapt.data.parallel import split_by_english
from langadapt.data.tokens import Tokens
from langadapt.errors import Progress, RecipeError, TrainingError
from langadapt.models import load_text_model, resolve_model
from langadapt.recipes import TextModelRef
from langadapt.training.distill_start import alignment
from langadapt.training.log import read_log
from langadapt.training.loop import Validation
from langadapt.training.run import StateBits


def test_adapter_learns_the_language(language_folder: Path, tmp_path: Path) -> None:
    untrained = run(language_folder, tmp_path / "a", "distill.learning_rate=1e-30", "distill.epochs=2")
    assert untrained.training["best_step"] == 10, "the first of two that are equal"
    trained = run(language_folder, tmp_path / "b", "distill.epochs=30")
    assert trained.training["held_out_recall"] > untrained.training["held_out_recall"] + 20


def test_rows_are_counted_and_english_itself_is_added(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """144 sentences, 14 held out; a quarter of the other 130 come in English too."""
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    said: list[str] = []
    settings = ("distill.epochs=1", "distill.learning_rate=1e-3")
    with_english = run(language_folder, tmp_path / "a", *settings, report=lambda p: said.append(p.stage))
    without = run(language_folder, tmp_path / "b", *settings, "distill.identity_fraction=0")
    assert (with_english.training["rows"], with_english.training["held_out_rows"]) == (130 + 32, 14)
    assert (without.training["rows"], without.training["held_out_rows"]) == (130, 14)
    assert with_english.training["steps"] == 162 // 16
    assert set(said) >= {"teacher embeddings", "frozen states", "distil"}
    trained = sum(weight.numel() for weight in weights(tmp_path / "a").values())
    assert with_english.training["trained_parameters"] == trained


def test_log_tells_every_step_and_the_recall_of_every_epoch(language_folder: Path, tmp_path: Path) -> None:
    shown: list[Progress] = []
    run(language_folder, tmp_path, "distill.epochs=3", report=shown.append)
    steps, recalls = read_log(tmp_path)
    assert [log.step for log in steps] == list(range(1, 31))
    assert [log.epoch for log in steps] == [0] * 10 + [1] * 10 + [2] * 10
    assert list(recalls) == [10, 20, 30]
    assert steps[-1].loss < steps[0].loss
    assert steps[0].learning_rate < max(log.learning_rate for log in steps) <= 3e-3
    assert [p.done for p in shown if p.stage == "distil"] == list(range(1, 31))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter.safetensors",
        "artifact.json",
        "log.jsonl",
        "recipe.yaml",
        "samples.safetensors",
    ]


@pytest.mark.parametrize("bits", [16, 8])
def test_free_disk_space_does_not_change_the_result(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: StateBits
) -> None:
    """Computed in the step, hidden states are rounded as stored ones: what differs is float32's last bits.

    Not rounded, losses differ by 5e-4 where 16 bits are stored, and by more where 8 are.
    """
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    run(language_folder, tmp_path / "b", "distill.epochs=2", state_bits=bits)
    assert not list((tmp_path / "cache").glob("states*"))
    monkeypatch.undo()
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    run(language_folder, tmp_path / "a", "distill.epochs=2", state_bits=bits)
    assert list((tmp_path / "cache").glob("states*"))
    losses = [[log.loss for log in read_log(tmp_path / name)[0]] for name in "ab"]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=5e-5)
    texts = [target for _, target in sentences()[:20]]
    a, b = (langadapt.load(tmp_path / name).encode_text(texts) for name in "ab")
    assert (a * b).sum(dim=1).min() > 0.99999


@pytest.mark.parametrize("trains", ["frozen", "{lora: {rank: 2}}"])
def test_global_randomness_is_left_alone(language_folder: Path, tmp_path: Path, trains: str) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    run(language_folder, tmp_path / "a", "distill.epochs=1", f"text_model.trains={trains}")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    torch.manual_seed(12345)  # and another one changes nothing
    run(language_folder, tmp_path / "b", "distill.epochs=1", f"text_model.trains={trains}")
    torch.set_rng_state(before[0])
    assert (tmp_path / "a/adapter.safetensors").read_bytes() == (
        tmp_path / "b/adapter.safetensors"
    ).read_bytes()


def test_the_text_model_is_spared_the_adapters_decay(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen = sys.modules["langadapt.training.distill"], set()
    groups = module.parameter_groups

    def noted(weights: Sequence[tuple[torch.nn.Parameter, float, float]]) -> object:
        listed = list(weights)
        seen.update((rate, decay) for _, rate, decay in listed)
        return groups(listed)

    monkeypatch.setattr(module, "parameter_groups", noted)
    rates = ("distill.learning_rate=0.002", "text_model.learning_rate=0.0001", "distill.weight_decay=2")
    run(language_folder, tmp_path / "es", "text_model.trains=full", "distill.epochs=1", *rates)
    assert seen == {(0.002, 2.0), (0.002, 0.0), (0.0001, 0.01), (0.0001, 0.0)}


def test_seed_decides(language_folder: Path, tmp_path: Path) -> None:
    digests = {
        run(language_folder, tmp_path / s, "distill.epochs=1", f"distill.seed={s}").digest for s in "01"
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("recalls", "best"),
    [([20.0, 60.0, 40.0], 1), ([60.0, 20.0, 40.0], 0), ([20.0, 60.0, 60.0], 1), ([20.0, 40.0, 60.0], 2)],
    ids=["middle", "first", "first of two equal ones", "last"],
)
def test_the_best_epoch_is_kept_not_the_last(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recalls: list[float], best: int
) -> None:
    """The recalls are given: no rounding decides which epoch is the best one."""
    epochs: list[dict[str, torch.Tensor]] = []

    def given(model: torch.nn.Module, data: object, *, step: int) -> Validation:
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        epochs.append({name: value.detach().half() for name, value in trained.items()})
        return Validation(recall=recalls[len(epochs) - 1])

    module = sys.modules["langadapt.training.distill"]  # the package's name for it is the function
    monkeypatch.setattr(module, "validate_texts", given)
    said = run(language_folder, tmp_path, "distill.epochs=3").training
    assert (said["best_step"], said["held_out_recall"], said["steps"]) == (
        10 * (best + 1),
        recalls[best],
        30,
    )
    assert read_log(tmp_path)[1] == dict(zip((10, 20, 30), recalls, strict=True))
    kept = weights(tmp_path)
    assert kept.keys() == epochs[best].keys()
    same = [all(torch.equal(kept[name], value) for name, value in epoch.items()) for epoch in epochs]
    assert same == [epoch == best for epoch in range(3)]


def test_the_held_out_recall_is_what_the_artifact_reaches(language_folder: Path, tmp_path: Path) -> None:
    """Computed from outside, as a range: training sees other roundings of weights and states."""
    said = run(language_folder, tmp_path, "distill.epochs=4").training
    english, target = zip(*sentences(), strict=True)
    rows = split_by_english(english, held_out=14, generator=torch.Generator().manual_seed(0)).held_out
    model = langadapt.load(tmp_path)
    scores = model.encode_text([target[i] for i in rows]) @ model.teacher.text.embed(list(english)).T
    own = torch.from_numpy(rows)[:, None]
    ahead = scores - scores.gather(1, own)
    ahead.scatter_(1, own, 1.0)  # its own place is taken in any case
    # Two cosines, each 0.005 away at most: who comes nearer than that may stand before or behind.
    lowest, highest = (
        sum(100 * ((ahead >= nearest).sum(dim=1) <= k).double().mean().item() for k in (1, 5, 10)) / 3
        for nearest in (-0.01, 0.01)
    )
    assert lowest <= said["held_out_recall"] <= highest


def test_few_rows_are_passed_over_until_there_are_enough_steps(language_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    settings = ("distill.epochs=2", "distill.min_steps=45")
    facts = run(language_folder, tmp_path, *settings, report=lambda p: said.append(p.stage)).training
    assert (facts["steps"], facts["stopped_at"]) == (60, 60)
    assert "steps: 60 in 2 epochs of 3 passes of 10, for min_steps 45" in said
    assert list(read_log(tmp_path)[1]) == [30, 60]


def test_the_lower_loss_decides_and_recall_only_among_equal_ones(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter(
        [Validation(50.0, 0.5), Validation(40.0, 0.25), Validation(45.0, 0.25), Validation(99.0, 0.3)]
    )
    module = sys.modules["langadapt.training.distill"]
    monkeypatch.setattr(module, "validate_texts", lambda model, data, step: next(given))
    facts = run(language_folder, tmp_path, "distill.epochs=4").training
    assert (facts["best_step"], facts["held_out_recall"], facts["held_out_loss"]) == (30, 45.0, 0.25)


def english_table(folder: Path) -> str:
    """Every second English sentence, and twenty that no pair has."""
    texts = [english for english, _ in sentences()[::2]] + [f"red cat number {n} in sea" for n in range(20)]
    path = folder / "captions.tsv"
    path.write_text("image\tcaption\n" + "".join(f"{n}.jpg\t{text}\n" for n, text in enumerate(texts)))
    return str(path)


def test_english_text_fills_its_share_and_never_holds_what_is_held_out(
    language_folder: Path, tmp_path: Path
) -> None:
    english, _ = zip(*sentences(), strict=True)
    held = split_by_english(english, held_out=14, generator=torch.Generator().manual_seed(0)).held_out
    said: list[str] = []
    settings = (f"distill.english=['{english_table(tmp_path)}']", "distill.identity_fraction=0")
    made = run(language_folder, tmp_path / "a", *settings, report=lambda p: said.append(p.stage))
    alone = 72 + 20 - len(set(english[::2]) & {english[i] for i in held})
    assert (made.training["english_rows"], made.training["rows"]) == (alone, 130 + alone)
    share = round(16 * alone / (130 + alone))
    assert any(f"; {share} of 16 rows are English text" in line for line in said)
    assert [source.language for source in made.data] == ["es", "en"]


def test_english_alone_makes_a_start_that_other_runs_take_up(language_folder: Path, tmp_path: Path) -> None:
    table = english_table(tmp_path)
    universal = run(
        language_folder, tmp_path / "a", "distill.data=[]", f"distill.english=['{table}']", "distill.epochs=1"
    )
    assert universal.training["english_rows"] == universal.training["rows"] == 92 - 9
    start = f"distill.start={tmp_path / 'a'}"
    still = run(language_folder, tmp_path / "b", start, "distill.epochs=1", "distill.learning_rate=1e-30")
    assert still.training["start"] == universal.digest
    assert weights(tmp_path / "a").keys() == weights(tmp_path / "b").keys()
    for name, value in weights(tmp_path / "a").items():
        assert torch.equal(value, weights(tmp_path / "b")[name]), name
    same = run(language_folder, tmp_path / "d", start, "distill.epochs=1", "adapter.states=[-2, -1]")
    assert same.recipe.adapter.states == (-2, -1), "2 and 3 of 4 states, in other words"
    for setting, what in (
        ("adapter.bottleneck_dim=64", "shape"),
        ("text_model.prefix='x '", "prefix"),
        ("adapter.states=[1, -1]", "states"),
    ):
        with pytest.raises(RecipeError, match=f"distill.start .*another .*{what}"):
            run(language_folder, tmp_path / "c", start, setting, overwrite=True)


def test_the_shape_follows_the_alignment(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["langadapt.training.distill_start"]
    settings = ("adapter.layers=auto", "adapter.bottleneck_dim=auto", "distill.epochs=1")
    # The text model has states 0 to 3: two thirds of the way is state 2.
    for found, shape in ((80.0, (0, 2048, (2, 3))), (20.0, (2, 256, 4))):
        monkeypatch.setattr(module, "alignment", lambda *_, found=found: found)
        artifact = run(language_folder, tmp_path / str(found), *settings)
        spec = artifact.recipe.adapter
        assert (spec.layers, spec.bottleneck_dim, spec.states) == shape
        asked = (*settings, "adapter.layers=1")
        assert run(language_folder, tmp_path / f"{found} asked", *asked).recipe.adapter.states == shape[2]


def test_alignment_pools_as_the_repository_says(
    text_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(text_model_folder, tmp_path / "model"))
    (folder / "1_Pooling").mkdir()
    ref = TextModelRef(repo=str(folder))
    english = [f"{colour} cat" for colour in ("red", "blue", "green", "white")]

    def only_first_tokens_differ(tokens: Tokens, rows: Sequence[int], layers: object) -> torch.Tensor:
        blocks = []
        for row, length in zip(rows, tokens.lengths_of(rows), strict=True):
            block = torch.zeros(int(length), 1, 32)
            block[1:, :, 0] = 1e6
            block[0, :, 1 + int(row)] = 1.0
            blocks.append(block)
        return torch.cat(blocks)

    found = {}
    for first in (False, True):
        facts = {"pooling_mode_cls_token": first, "pooling_mode_mean_tokens": not first}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(facts), encoding="utf-8")
        encoder = load_text_model(resolve_model(ref), ref, max_tokens=77)
        monkeypatch.setattr(encoder, "packed_states", only_first_tokens_differ)
        found[first] = alignment(encoder, english, english)
    assert found[True] == 100.0
    assert found[False] <= 25.0, "by the mean all texts look alike, so the first one answers"


def test_alignment_is_the_recall_of_translations(text_model_folder: Path) -> None:
    ref = TextModelRef(repo=str(text_model_folder))
    encoder = load_text_model(resolve_model(ref), ref, max_tokens=77)
    english = [f"{colour} cat" for colour in ("red", "blue", "green", "white")]
    assert alignment(encoder, english, english) == 100.0
    assert alignment(encoder, english, [*english[1:], english[0]]) == 0.0
    assert alignment(encoder, english * 2, english + english[::-1]) == 100.0, "the first of equal ones"


def test_loss_that_is_not_finite_is_one_line(language_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        run(language_folder, tmp_path, "distill.learning_rate=1e30", "distill.gradient_clip_norm=1e30")
    assert "the loss is nan at step" in str(error.value)
    assert "lower the stage's learning rates" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "artifact.json").exists()


def test_weights_that_break_in_the_last_step_of_an_epoch_are_one_line(
    language_folder: Path, tmp_path: Path
) -> None:
    """One step an epoch: the held-out recall sees the broken weights first."""
    settings = ("distill.batch_size=162", "distill.learning_rate=1e38", "distill.epochs=2")
    with pytest.raises(TrainingError, match="not finite after step 1"):
        run(language_folder, tmp_path, *settings)
