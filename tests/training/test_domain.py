"""Domain adaptation: which pairs are drawn, the bank's exact resume, stages in a row."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language import sentences
from tiny_tune import distilled, domain_stage, every_epoch_is_better, hard_pairs, tuned, write_pairs
from tiny_tune import stage as tune_stage

import langadapt
from langadapt.errors import Progress, RecipeError, TrainingError
from langadapt.hub.card import CardFacts, card_text
from langadapt.models import Artifact
from langadapt.models.trainable import weight_changes
from langadapt.models.tuning import ContrastModel
from langadapt.training.contrast import ContrastData
from langadapt.training.hard_sampling import HardSampler
from langadapt.training.log import log_entries, read_log
from langadapt.training.loop import Validation

TEXTS = [target for _, target in sentences()[::13]]


class Stopped(Exception):
    """As if the power had failed."""


@pytest.fixture(scope="module")
def start(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student without dropout in its adapter, after one epoch."""
    return distilled(language_folder, tmp_path_factory.mktemp("start") / "es", "adapter.dropout=0.0")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def sampler(folder: Path, values: list[float], **sampling: Any) -> HardSampler:
    """Pairs 1000, 1001, ... of these difficulties, drawn 20 at a time in one endless epoch."""
    chosen = domain_stage(folder / "pairs.tsv", batch_size=20, sampling=sampling)
    start = np.array(values, np.float32)
    return HardSampler(start, 1000 + np.arange(len(values)), chosen, steps_per_epoch=2000)


def run_through(made: HardSampler) -> None:
    """Draws an epoch, every batch measured as it stands in the bank."""
    order = made.order(0, 0)
    assert order is not None
    for drawn in order:
        assert len(set(drawn.tolist())) == 20
        made._measured = (drawn, torch.from_numpy(made.bank.values[drawn - 1000].copy()))
        made.learn()


def test_hard_pairs_come_oftener_and_no_pair_below_the_floor(tmp_path: Path) -> None:
    made = sampler(tmp_path, [0.0, 0.25, 0.5, 1.0] * 200, floor_fraction=0.3, strength=2.0)
    run_through(made)
    each = made.times.reshape(200, 4).mean(axis=0)
    # 40,000 draws of 800 pairs: 50 each, of which 0.3 is uniform and the rest follows the squares.
    squares = np.array([0.0, 0.0625, 0.25, 1.0])
    np.testing.assert_allclose(each, 50 * (0.3 + 0.7 * squares / squares.mean()), rtol=0.05)


def test_the_hardest_share_is_left_to_the_floor(tmp_path: Path) -> None:
    made = sampler(tmp_path, [0.2] * 400 + [0.99] * 100, floor_fraction=0.4, noise_fraction=0.2, strength=1.0)
    run_through(made)
    np.testing.assert_allclose(made.times[400:].mean(), 80 * 0.4, rtol=0.06)
    assert made.weights(np.array([1000, 1499]), torch.device("cpu")) is None, "draws alone, no weights"


def test_instance_weights_stand_apart_from_the_draws(tmp_path: Path) -> None:
    told = {"strength": 0.0, "instance_strength": 2.0, "floor_fraction": 0.5, "noise_fraction": 0.25}
    made = sampler(tmp_path, [0.2, 0.4, 0.4, 0.9], **told)
    assert made.order(0, 0) is None, "ordinary epochs"
    weights = made.weights(np.array([1000, 1001, 1003]), torch.device("cpu"))
    assert weights is not None
    mean = (0.04 + 0.16) / 3  # the last one is among the hardest quarter
    expected = [0.5 + 0.5 * 0.04 / mean, 0.5 + 0.5 * 0.16 / mean, 0.5]
    torch.testing.assert_close(weights, torch.tensor(expected))
    with pytest.raises(RecipeError, match="count the difficulty twice: set one to 0"):
        domain_stage(tmp_path / "pairs.tsv", sampling={"strength": 1.0, "instance_strength": 1.0})


def test_what_a_batch_measures_moves_its_own_pairs(tmp_path: Path) -> None:
    made = sampler(tmp_path, [0.2] * 40, momentum=0.75, difficulty="rank")
    # Caption 0 is found first, image 0 second: 0.25. Caption and image 1 are both found second: 0.5.
    logits = torch.tensor([[3.0, 1.0], [5.0, 0.0]])
    made.measure(np.array([1003, 1001]), logits, torch.zeros(2, 2, dtype=torch.bool))
    np.testing.assert_array_equal(made.bank.values, np.full(40, 0.2, np.float32))
    made.learn()
    expected = np.full(40, 0.2)
    expected[3], expected[1] = 0.75 * 0.2 + 0.25 * 0.25, 0.75 * 0.2 + 0.25 * 0.5
    np.testing.assert_allclose(made.bank.values, expected, rtol=1e-6)
    assert made.times.nonzero()[0].tolist() == [1, 3]


def test_weights_change_the_loss_and_leave_each_pair_one_draw_an_epoch(
    start: Path, pairs: Path, tmp_path: Path
) -> None:
    losses = []
    for strength in (0.0, 1.0):
        out = tmp_path / str(strength)
        sampling = {"strength": 0.0, "instance_strength": strength}
        tuned(start, out, domain_stage(pairs, image="locked", batch_size=12, sampling=sampling))
        assert {pair["draws"] for pair in hard_pairs(out)} == {2}
        losses.append(read_log(out)[0][0].loss)
    assert losses[0] != losses[1]


def test_the_hardest_share_is_as_large_as_that_of_wrong_captions(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, made = sys.modules["langadapt.training.hard_sampling"], list[HardSampler]()
    monkeypatch.setattr(module, "HardSampler", lambda *given: made.append(HardSampler(*given)) or made[-1])
    # A quarter of the 12 held-out captions finds its image last of 6: half of all are wrong.
    some, lost = [6, 1, 1, 2] * 3, [6] * 12
    for ranks, share, expected, wrong in (
        (some, "auto", 0.5, 0.5),
        (some, 0.125, 0.125, 0.5),
        (lost, "auto", 0.0, 1.0),
    ):
        monkeypatch.setattr(module, "caption_ranks", lambda *given, ranks=ranks: np.array(ranks))
        sampling = {"strength": 1.0, "noise_fraction": share}
        chosen = domain_stage(pairs, image="locked", epochs=1, sampling=sampling)
        artifact = tuned(start, tmp_path / "run", chosen, overwrite=True)
        assert made[-1].bank.rule.noise_fraction == expected
        assert artifact.training["domain"]["wrong_captions"] == wrong


def test_resumed_equals_uninterrupted(start: Path, pairs: Path, tmp_path: Path) -> None:
    # Difficulties that change at once and wholly: the next draw tells whether any is not the right one.
    sampling = {"difficulty": "chance", "noise_fraction": 0.3, "momentum": 0.0, "floor_fraction": 0.0}
    values = {"image": "locked", "learning_rate": 1e-2, "batch_size": 9, "epochs": 3}
    chosen = domain_stage(pairs, **values, sampling={**sampling, "strength": 4.0})

    def stopping(progress: Progress) -> None:
        if progress.stage == "tune" and progress.done == 6:
            raise Stopped

    whole = tuned(start, tmp_path / "whole", chosen)
    with pytest.raises(Stopped):
        tuned(start, tmp_path / "parts", chosen, report=stopping, checkpoint_seconds=0.0)
    parts = tuned(start, tmp_path / "parts", chosen)
    assert parts.digest == whole.digest
    assert parts.training["domain"] == whole.training["domain"]
    assert hard_pairs(tmp_path / "parts") == hard_pairs(tmp_path / "whole"), "difficulties and draws"
    epochs = [list(log_entries(tmp_path / name, "sampling")) for name in ("whole", "parts")]
    assert epochs[0] == epochs[1]
    assert [epoch["step"] for epoch in epochs[0]] == [4, 8, 12]
    draws = [pair["draws"] for pair in hard_pairs(tmp_path / "whole")]
    assert sum(draws) == 12 * 9
    assert len(set(draws)) > 2, "not each pair alike"


def test_a_blend_keeps_a_share_of_the_change(
    start: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_epoch_is_better(monkeypatch)
    module: Any = sys.modules["langadapt.training.tune"]  # the package's name for it is the function
    real, seen = module.validate_pairs, list[tuple[float, dict[str, torch.Tensor]]]()

    def measured(model: ContrastModel, data: ContrastData, *, step: int) -> Validation:
        found: Validation = real(model, data, step=step)
        seen.append((found.recall, {f"domain.text.{n}": v for n, v in weight_changes(model.text).items()}))
        return found

    monkeypatch.setattr(module, "validate_pairs", measured)
    values = {"text": ["layer_norm"], "image": "locked", "learning_rate": 1e-1}
    made = {
        share: tuned(start, tmp_path / str(share), domain_stage(pairs, **values, blend=share))
        for share in (1.0, 0.25)
    }
    assert not made[1.0].training["fell_back"]
    recall, blended = seen[-1]  # measured after the blend
    assert made[0.25].training["held_out_recall"] == recall
    changes = [name for name in made[1.0].weights if name.startswith("domain.text.")]
    assert max(made[1.0].weights[name].abs().max() for name in changes) > 1e-3
    for name in changes:
        for found in (made[0.25].weights[name], blended[name]):
            torch.testing.assert_close(found, made[1.0].weights[name] / 4, rtol=2e-3, atol=1e-6)


@pytest.fixture(scope="module")
def twice(start: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    """Tuned with bottlenecks and a layer on top, then adapted to a domain with both once more."""
    folder = tmp_path_factory.mktemp("twice")
    both = {"text": ["adapters", "layer"], "learning_rate": 1e-2, "epochs": 4, "patience_epochs": 4}
    with pytest.MonkeyPatch.context() as patch:
        every_epoch_is_better(patch)
        before = tuned(start, folder / "tuned", tune_stage(pairs, **both))
        assert not before.training["fell_back"]
        chosen = domain_stage(pairs, **both, image=["adapters"])
        return folder, tuned(folder / "tuned", folder / "domain", chosen)


def test_a_domain_stands_on_a_tuned_student(twice: tuple[Path, Artifact], pairs: Path) -> None:
    folder, artifact = twice
    assert not artifact.training["fell_back"]
    before, after = (langadapt.load(folder / name) for name in ("tuned", "domain"))
    assert artifact.samples is not None
    said = after.encode_text(list(artifact.samples.texts))
    torch.testing.assert_close(said, artifact.samples.embeddings, rtol=0, atol=1e-6)
    assert not torch.allclose(before.encode_text(TEXTS), after.encode_text(TEXTS), atol=1e-3)
    assert after.image_identity != before.image_identity
    kept = {name for name in artifact.weights if name.startswith("tune.")}
    assert kept
    for name in kept:
        assert torch.equal(artifact.weights[name], before.artifact.weights[name])
    assert artifact.training["before"]["digest"] == before.artifact.digest
    assert [item.kind for item in artifact.data] == ["parallel", "pairs", "pairs"]
    card = card_text(
        CardFacts(repo="org/name", artifact=artifact, scores=[], adapter_bytes=0, has_module=False)
    )
    assert card.index("distillation on") < card.index("Then it was tuned") < card.index("Then it was adapted")
    moved = np.array(artifact.training["domain"]["held_out"]["captions"])
    assert moved.sum() == artifact.training["held_out_rows"]
    for chosen in (tune_stage(pairs), domain_stage(pairs)):
        with pytest.raises(TrainingError, match="is adapted to a domain already"):
            tuned(folder / "domain", folder / "again", chosen)


def test_a_tuned_model_changes_nothing_in_models_beside_it(
    twice: tuple[Path, Artifact], start: Path, pairs: Path
) -> None:
    plain = langadapt.load(start)
    pictures = sorted((pairs.parent / "pictures").glob("*.png"))[:4]
    texts, images = plain.encode_text(TEXTS), plain.encode_images(pictures)
    beside = langadapt.models.load(twice[0] / "domain", beside=[plain])
    assert torch.equal(plain.encode_text(TEXTS), texts)
    assert torch.equal(plain.encode_images(pictures), images)
    again = langadapt.models.load(start, beside=[beside])
    assert torch.equal(again.encode_text(TEXTS), texts)
    assert torch.equal(again.encode_images(pictures), images)
