"""The card says what the artifact and its scores say, and the Hub's own library reads it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from scored import score
from stand_in import card_faults

from langadapt.hub.card import CardFacts, card_text
from langadapt.hub.licences import changed_models, objections
from langadapt.hub.stage import StageOptions, publish
from langadapt.models import Artifact, read_artifact


@pytest.fixture(scope="module")
def card(scored_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ModelCard]:
    out = tmp_path_factory.mktemp("card") / "out"
    publish(scored_run, options=StageOptions(repo="me/clip-es", local_base_models=True), out=out)
    return (out / "README.md").read_text(encoding="utf-8"), ModelCard.load(out / "README.md")


def test_the_hubs_library_reads_the_scores(card: tuple[str, ModelCard], scored_run: Path) -> None:
    (scored,) = json.loads((scored_run / "scores.json").read_text(encoding="utf-8"))["cards"]
    student = scored["student"]
    expected = {"mR6": student["mr6"]}
    for words, key in (("text to image", "t2i"), ("image to text", "i2t")):
        expected |= {f"R@{k}, {words}": student[key][f"r{k}"] for k in (1, 5, 10)}
    results = card[1].data.eval_results
    assert {result.metric_name: result.metric_value for result in results} == pytest.approx(
        expected, abs=1e-4
    )
    assert {result.dataset_name for result in results} == {"es-test (es)"}
    assert {result.metric_args["signature"] for result in results} == {student["signature"]}


def test_the_metadata(card: tuple[str, ModelCard]) -> None:
    text, read = card
    block = yaml.safe_load(text.split("---\n")[1])
    assert card_faults(block) == []
    assert block["language"] == ["es"]
    assert block["license"] == "unknown", "the tiny models' recipe states none"
    assert block["model-index"][0]["name"] == "clip-es"
    assert "base_model" not in block, "folders are not on the Hub"
    assert read.data.library_name == "langadapt"


def row_of(name: str, scores: dict[str, Any]) -> str:
    recalls = [scores[direction][key] for direction in ("t2i", "i2t") for key in ("r1", "r5", "r10")]
    values = (*recalls, scores["mr3_t2i"], scores["mr3_i2t"], scores["mr6"])
    return f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |"


def test_the_text_says_what_is_known_and_what_is_not(card: tuple[str, ModelCard], scored_run: Path) -> None:
    text = card[0]
    facts = json.loads((scored_run / "artifact.json").read_text(encoding="utf-8"))
    (scored,) = json.loads((scored_run / "scores.json").read_text(encoding="utf-8"))["cards"]
    training = facts["training"]
    for words in (
        "Spanish (español)", "ISO 639-3 `spa`",
        facts["teacher"]["revision"], facts["text_model"]["revision"],
        "Test sentences (`es-parallel`)", "| 144 |", "CC0-1.0", facts["data"][0]["fingerprint"],
        f"{training['trained_parameters']:,}, {training['trained_percent']:g} % of the student",
        f"{training['steps']:,} steps", "25% beside the rows of the language",
        scored["student"]["signature"], scored["ceiling"]["signature"], scored["floor"]["signature"],
        f"Retention: {scored['retention']:.1%}",
        f"| {scored['student']['mr6']:.1f} | {scored['student']['interval']['low']:.1f}–",
        "trained part: locked", "| teacher, English |",
        row_of("**student**", scored["student"]), row_of("teacher, English", scored["ceiling"]),
        row_of("teacher, raw captions", scored["floor"]),
        "unknown whether the training text contains them",
        "energy | not measured", facts["environment"]["torch"],
        'langadapt.load("me/clip-es"', "gato rojo en mar",
    ):  # fmt: skip
        assert words in text, words
    assert str(scored_run) not in text


def text_of(artifact: Artifact) -> str:
    return card_text(CardFacts(repo="me/x", artifact=artifact, scores=[], adapter_bytes=0, has_module=False))


def test_contamination_is_said_as_it_is_known(scored_run: Path) -> None:
    artifact = read_artifact(scored_run)

    def said(*states: str) -> str:
        sources = (
            replace(artifact.data[0], name=f"c{number}", contamination=state)
            for number, state in enumerate(states)
        )
        return text_of(replace(artifact, data=tuple(sources)))

    assert "translations: c0." in said("unchecked", "dropped")
    assert "with matching rows removed: c1." in said("unchecked", "dropped")
    assert "unknown whether the training text" not in said("dropped")
    assert "the scores are too high: c0 kept(7)." in said("kept(7)", "dropped")
    assert "contains test captions, and they were kept" not in said("unchecked", "dropped")
    assert "no corpus is stated" in said()


@pytest.mark.parametrize(
    ("weights", "held"),
    [
        ((), "no weights of theirs"),
        (("text_model.new_pieces", "tune.text.adapter.up.weight"), "no weights of theirs"),
        (("tune.text.text_model.encoder.x",), "trained changes to `org/text_model`."),
        (("domain.image.x",), "trained changes to `org/teacher`."),
        (
            ("domain.image.x", "domain.text.text_model.encoder.x"),
            "changes to `org/teacher`, `org/text_model`.",
        ),
    ],
)
def test_it_says_of_which_base_model_it_holds_changes(
    scored_run: Path, weights: tuple[str, ...], held: str
) -> None:
    artifact = read_artifact(scored_run)
    bases = {
        role: replace(getattr(artifact, role), repo=f"org/{role}", licence="CC-BY-ND-4.0")
        for role in ("teacher", "text_model")
    }
    added = {name: torch.zeros(1) for name in weights}
    artifact = replace(artifact, weights={**artifact.weights, **added}, **bases)
    assert held in text_of(artifact)
    objected = objections(artifact.data, changed_models(artifact))
    assert len(objected) == held.count("org/")


def test_a_tuned_adapter_tells_both_stages(scored_run: Path) -> None:
    artifact = read_artifact(scored_run)
    told = {"steps": 12345, "seconds": 9.0, "distilled": {**artifact.training, "steps": 678}}
    text = text_of(replace(artifact, training=told))
    assert "678 steps" in text
    assert "| steps | 12345 |" in text


def test_a_translated_baseline_stands_in_the_card(
    run: Path, marian_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(run, monkeypatch, "--translate-with", str(marian_folder))
    publish(run, options=StageOptions(repo="me/clip-es", local_base_models=True), out=tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (scored,) = json.loads((run / "scores.json").read_text(encoding="utf-8"))["cards"]
    assert row_of("teacher, translated", scored["translated"]) in text
    assert f"chrF++ {scored['translation']['chrf']:.1f}" in text
    assert scored["translated"]["signature"] in text
