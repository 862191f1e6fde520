"""The student as training holds it: what is frozen stays quiet, and encoding is always exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_language import sentences

from langadapt.data.tokens import Tokens
from langadapt.models import Student, load_text_model, resolve_model
from langadapt.models.tuning import trainable_student
from langadapt.nn.adapter import normed
from langadapt.recipes import AdapterSpec, Method, ModelRef, TextModelRef

TEXTS = [target for _, target in sentences()[::9]]


def student(folder: Path, trains: Method, *, layers: int = 1) -> Student:
    source = resolve_model(ModelRef(repo=str(folder)))
    encoder = load_text_model(source, TextModelRef(repo=str(folder)), max_tokens=77)
    spec = AdapterSpec(bottleneck_dim=32, layers=layers, heads=2, feedforward_dim=32, dropout=0.5)
    made = Student(text_model=encoder, spec=spec, target_dim=24)
    trainable_student(made, (trains,), seed=0)
    return made


@pytest.mark.parametrize("trains", ["locked", "full"])
def test_encoding_has_no_dropout_and_leaves_the_mode_as_it_was(
    text_model_folder: Path, trains: Method
) -> None:
    model = student(text_model_folder, trains).train()
    first = model.encode(TEXTS)
    assert torch.equal(first, model.encode(TEXTS))
    assert model.training
    assert model.adapter.training
    assert not first.requires_grad
    model.eval()
    assert torch.equal(first, model.encode(TEXTS))
    assert not model.training


def test_encoding_equals_the_plain_forward_pass(
    text_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = student(text_model_folder, "locked").eval()
    texts = [*TEXTS, "gato", "perro rojo"]
    tokens = model.text_model.tokenize(texts)
    with torch.no_grad():
        plain = torch.cat([model(tokens.batch(np.array([row]))) for row in range(len(texts))])
    expected = torch.nn.functional.normalize(plain, dim=1)
    torch.testing.assert_close(model.encode(texts), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode(texts, batch_tokens=7), expected, rtol=0, atol=1e-5)
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    cosine = (model.encode(texts) * expected).sum(dim=1)
    assert 0.9995 <= cosine.min() < 1 - 1e-7, "near, and not computed in float32"
    torch.testing.assert_close(model.encode(texts, exact=True), expected, rtol=0, atol=1e-5)


def test_a_batch_that_finds_no_memory_is_halved_until_it_does(text_model_folder: Path) -> None:
    model = student(text_model_folder, "locked").eval()
    expected, frozen, tried = model.encode(TEXTS), model.frozen, []

    def small(tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> torch.Tensor:
        tried.append(len(rows))
        if len(rows) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return frozen.run(tokens, rows, exact=exact)

    limit = 3
    found = replace(frozen, run=small).embed(TEXTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert max(tried) == len(TEXTS)
    assert sum(rows for rows in tried if rows <= limit) == len(TEXTS), "each text once"
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        replace(frozen, run=small).embed(TEXTS)


@pytest.mark.parametrize("trains", ["locked", "full"])
def test_two_cores_say_what_one_says(text_model_folder: Path, trains: Method) -> None:
    model = student(text_model_folder, trains)
    expected = model.encode(TEXTS, batch_tokens=9)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = model.encode(TEXTS, batch_tokens=9)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_states_for_training_are_the_plain_ones_without_padding(
    text_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = student(text_model_folder, "locked").train()
    tokens, rows = model.text_model.tokenize(TEXTS), np.arange(len(TEXTS))[::-1].copy()
    batch = tokens.batch(rows)
    expected = normed(model.text_model.states(batch, "all"))[batch.mask]
    torch.testing.assert_close(model.packed_states(tokens, rows), expected, rtol=0, atol=1e-4)
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        half = model.packed_states(tokens, rows)
        model(batch, half).sum().backward()
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)
    assert model.adapter.down.weight.grad is not None


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("known", [True, False], ids=["states known", "states computed"])
def test_a_batch_of_mixed_lengths_means_what_its_texts_mean_alone(
    text_model_folder: Path, known: bool, layers: int
) -> None:
    model = student(text_model_folder, "locked", layers=layers).eval()
    texts = ["gato " * n for n in (2, 9, 1, 2, 3, 2, 12, 1)]
    tokens = model.text_model.tokenize(texts)
    batch = tokens.batch(np.arange(8))
    states = normed(model.text_model.states(batch, "all"))[batch.mask] if known else None
    places: list[int] = []
    first = model.adapter.layers[0] if layers else model.adapter.down
    first.register_forward_pre_hook(lambda _, given: places.append(given[0][..., 0].numel()))
    together = model(batch, states)
    together.sum().backward()
    gradient = model.adapter.down.weight.grad
    assert gradient is not None
    assert sum(places) < 0.8 * batch.mask.numel()
    model.zero_grad()
    alone = torch.cat([model(tokens.batch(np.array([row]))) for row in range(8)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    alone.sum().backward()
    torch.testing.assert_close(gradient, model.adapter.down.weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("attention", "path"), [("sdpa", "packed"), ("eager", "padded")])
def test_a_text_model_that_trains_learns_what_plainly_padded_texts_teach(
    text_model_folder: Path, attention: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")  # whose copy of the weights has no gradients
    model = student(text_model_folder, "full").eval()
    model.text_model.encoder.set_attn_implementation(attention)
    assert model.text_model.path == path
    texts = ["gato " * n for n in (2, 9, 1, 2, 3, 2, 12, 1)]
    tokens, rows = model.text_model.tokenize(texts), np.arange(len(texts))
    batch = tokens.batch(rows)
    padded = normed(model.text_model.states(batch, model.layers))[batch.mask]
    gradients = []
    for known in (padded, None):
        model(batch, known).square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
        model.zero_grad()
    assert sum(bool(g is not None and g.any()) for g in gradients[0].values()) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("trains", "in_training"), [("locked", False), ("full", True), ("embeddings", True)])
def test_a_frozen_text_model_stays_in_eval_mode(
    text_model_folder: Path, trains: Method, in_training: bool
) -> None:
    model = student(text_model_folder, trains).train()
    assert model.text_model.encoder.training == in_training
    assert model.adapter.training


def test_weights_are_counted(text_model_folder: Path) -> None:
    adapter = sum(weight.numel() for weight in student(text_model_folder, "locked").adapter.parameters())
    encoder = sum(weight.numel() for weight in student(text_model_folder, "locked").text_model.parameters())
    counts = {trains: student(text_model_folder, trains).parameter_counts() for trains in ("locked", "full")}
    assert counts["locked"] == {"trained": adapter, "total": adapter + encoder}
    assert counts["full"] == {"trained": adapter + encoder, "total": adapter + encoder}
    table = student(text_model_folder, "embeddings")
    assert table.parameter_counts()["trained"] - adapter == 39 * 32
