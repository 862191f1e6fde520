"""Each example holds the right text, target and states, whatever was sorted in between."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language import COLOURS, THINGS, sentences
from tiny_run import silent

from langadapt.data.batches import AdapterBatch
from langadapt.data.parallel import ParallelSentences
from langadapt.errors import Report
from langadapt.models import Student, Teacher, load_teacher, load_text_model, resolve_model
from langadapt.nn.adapter import normed
from langadapt.recipes import AdapterSpec, DistillStage, ModelRef, TextModelRef
from langadapt.training.distill import embed_batch
from langadapt.training.distill_data import DistillData, prepare
from langadapt.training.distill_states import Cache, FrozenStates, frozen_states
from langadapt.training.run import StateBits

SHORT = [(f"{c} {t}", f"{t2} {c2}") for c, c2 in COLOURS.items() for t, t2 in THINGS.items()]
# Of several lengths in no order, some sentences twice, some with two translations.
ROWS = [row for pair in zip(sentences()[:36], SHORT, strict=True) for row in pair]
ROWS += [(english, target + " hogar hogar") for english, target in SHORT[:10]] + SHORT[:5]
STAGE = DistillStage(data=("unused",), held_out_sentences=6, identity_fraction=0.5)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return load_teacher(resolve_model(ModelRef(repo=str(teacher_folder))))


@pytest.fixture(scope="module")
def student(text_model_folder: Path) -> Student:
    source = resolve_model(ModelRef(repo=str(text_model_folder)))
    encoder = load_text_model(source, TextModelRef(repo=str(text_model_folder)), max_tokens=77)
    return Student(text_model=encoder, spec=AdapterSpec(), target_dim=24)


def prepared(
    teacher: Teacher,
    student: Student,
    cache: Path,
    *,
    budget: int = 10**9,
    bits: StateBits = 16,
    report: Report = silent,
) -> DistillData:
    corpora = [
        ParallelSentences(name=name, language="es", english=[a for a, _ in rows], target=[b for _, b in rows])
        for name, rows in (("one", ROWS[:50]), ("two", ROWS[50:]))
    ]
    return prepare(
        corpora,
        stage=STAGE,
        teacher=teacher,
        student=student,
        cache=Cache(folder=cache, state_bytes=budget, state_bits=bits),
        report=report,
    )


def test_examples_hold_what_belongs_together(teacher: Teacher, student: Student, tmp_path: Path) -> None:
    data = prepared(teacher, student, tmp_path)
    encoder = student.text_model
    english = list(dict.fromkeys(a for a, _ in ROWS))
    embedded = teacher.text.embed(english)
    seen: dict[str, list[tuple[str, str]]] = {}
    for side, examples in (("train", data.train), ("held out", data.held_out)):
        rows = np.arange(len(examples))[::-1].copy()
        batch, text = (
            data.prepared(data.batch(examples, rows), student),
            data.tokens.batch(examples.text[rows]),
        )
        assert isinstance(batch, AdapterBatch)
        closest = (batch.targets @ embedded.T).argmax(dim=1).tolist()
        torch.testing.assert_close(batch.targets, embedded[closest], rtol=0, atol=1e-5)
        seen[side] = []
        of_texts = batch.states.split(text.mask.sum(dim=1).tolist())
        for ids, mask, states, number in zip(text.input_ids, text.mask, of_texts, closest, strict=True):
            text = encoder.tokenizer.decode(ids[mask], skip_special_tokens=True)
            seen[side].append((english[number], text))
            with torch.no_grad():
                expected = encoder.states(encoder.tokenize([text]).batch(np.zeros(1, np.int64)), "all")[0]
            torch.testing.assert_close(states, normed(expected).bfloat16(), rtol=0.02, atol=0.02)

    held_out = {a for a, _ in seen["held out"]}
    assert len(held_out) == len(seen["held out"]) == 6
    translations = [row for row in ROWS if row[0] not in held_out]
    itself = [row for row in seen["train"] if row[0] == row[1]]
    assert len(itself) == round(0.5 * len(translations))
    assert sorted(row for row in seen["train"] if row[0] != row[1]) == sorted(translations)
    assert not {a for a, _ in seen["train"]} & held_out
    assert all(row in ROWS for row in seen["held out"])


def test_each_distinct_text_is_encoded_once(teacher: Teacher, student: Student, tmp_path: Path) -> None:
    data = prepared(teacher, student, tmp_path)
    assert len(data.targets) == len({a for a, _ in ROWS}) == 72
    texts = {tuple(data.tokens.batch(np.array([i])).input_ids[0].tolist()) for i in range(len(data.tokens))}
    assert len(texts) == len(data.tokens)


def test_other_models_never_read_these_stores(teacher: Teacher, student: Student, tmp_path: Path) -> None:
    prepared(teacher, student, tmp_path)
    prepared(teacher, student, tmp_path)
    assert {kind.name: len(list(kind.iterdir())) for kind in tmp_path.iterdir()} == {
        "states": 1,
        "teacher-text": 1,
    }
    prepared(replace(teacher, source=replace(teacher.source, revision="other")), student, tmp_path)
    source = student.text_model.source
    student.text_model.source = replace(source, revision="other")
    try:
        prepared(teacher, student, tmp_path)
    finally:
        student.text_model.source = source
    assert {kind.name: len(list(kind.iterdir())) for kind in tmp_path.iterdir()} == {
        "states": 2,
        "teacher-text": 2,
    }


def test_eight_bits_are_near_and_take_half(teacher: Teacher, student: Student, tmp_path: Path) -> None:
    exact, rounded = (prepared(teacher, student, tmp_path, bits=bits).states for bits in (16, 8))
    assert isinstance(exact, FrozenStates)
    assert isinstance(rounded, FrozenStates)
    every = np.random.default_rng(0).permutation(len(exact.tokens))
    near, expected = rounded.of(every).float(), exact.of(every).float()
    largest = expected.abs().amax(dim=-1, keepdim=True)
    # Half a step of 127, and bfloat16 rounds scale and number to 1/256 each.
    assert ((near - expected).abs() <= largest / 254 + expected.abs() / 100).all()
    assert (near - expected).abs().max() > 0.002
    sizes = [next(tmp_path.glob(f"{kind}/*/rows.bin")).stat().st_size for kind in ("states", "states-8-bits")]
    assert sizes[1] < 0.55 * sizes[0]


def test_what_does_not_fit_is_not_cached_and_the_way_out_is_named(
    teacher: Teacher, student: Student, tmp_path: Path
) -> None:
    whole = prepared(teacher, student, tmp_path / "whole").states
    assert isinstance(whole, FrozenStates)
    (rows,) = (tmp_path / "whole").glob("states/*/rows.bin")
    budget = int(0.7 * rows.stat().st_size)
    said: list[str] = []
    cache = tmp_path / "cache"
    data = prepared(teacher, student, cache, budget=budget, report=lambda p: said.append(p.stage))
    assert data.states is None
    assert any("computed in each step" in line and "GB with --state-bits 8" in line for line in said)
    assert isinstance(prepared(teacher, student, cache, budget=budget, bits=8).states, FrozenStates)
    said.clear()
    prepared(teacher, student, tmp_path / "other", budget=1000, report=lambda p: said.append(p.stage))
    assert not any("--state-bits" in line for line in said), "it would not fit either"


def test_a_run_that_began_on_a_device_and_has_no_room_computes_its_states(
    student: Student, tmp_path: Path
) -> None:
    tokens, said = student.text_model.tokenize(["uno", "dos"]), list[str]()
    cache = Cache(folder=tmp_path, state_bytes=10, settle=lambda fits: True)
    assert frozen_states(tokens, student, cache, lambda p: said.append(p.stage)) is None
    assert not list(tmp_path.iterdir()), "nothing beyond the budget"
    assert [line for line in said if "computed in each step" in line and "no room now" in line]


@pytest.mark.parametrize("bits", [16, 8])
def test_rows_that_a_device_holds_are_those_of_the_stores(
    teacher: Teacher, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: StateBits
) -> None:
    stored = prepared(teacher, student, tmp_path / "stored", bits=bits)
    for module in ("distill_data", "distill_states"):
        monkeypatch.setattr(f"langadapt.training.{module}.free_memory", lambda device: 10**9)
    monkeypatch.setattr("langadapt.training.distill_data._ROWS_AT_ONCE", 7)
    said: list[str] = []
    held = prepared(teacher, student, tmp_path / "held", bits=bits, report=lambda p: said.append(p.stage))
    assert any("frozen states: kept on cpu" in line for line in said)
    assert not (tmp_path / "held" / "states").exists()
    rows = np.random.default_rng(0).permutation(len(stored.train))[:40]
    picked = held.batch(held.train, rows)
    assert picked.targets.dtype == torch.int64, "numbers travel, not rows"
    batches = [data.prepared(data.batch(data.train, rows), student) for data in (stored, held)]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one, other)
    computed = prepared(teacher, student, tmp_path / "computed", budget=0, bits=bits)
    assert computed.states is None
    batch = computed.prepared(computed.batch(computed.train, rows), student)
    assert isinstance(batch, AdapterBatch)
    torch.testing.assert_close(batch.states, batches[0].states, rtol=0.02, atol=0.05)


def test_padding_to_few_shapes_changes_no_answer(
    teacher: Teacher, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, rows = prepared(teacher, student, tmp_path), np.arange(30)
    plain = data.prepared(data.batch(data.train, rows), student)
    monkeypatch.setattr(DistillData, "few_shapes", True)
    padded = data.prepared(data.batch(data.train, rows), student)
    assert isinstance(plain, AdapterBatch)
    assert isinstance(padded, AdapterBatch)
    assert len(padded.states) == padded.tokens.numel() > len(plain.states)
    gradients = []
    for batch in (plain, padded):
        student.zero_grad()
        embedded = embed_batch(student.eval(), batch)
        (embedded * batch.targets).sum().backward()
        gradients.append((embedded, student.adapter.down.weight.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
