"""Zero-shot classification of tiny real models, against a slow oracle from outside."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language import COLOURS
from tiny_pictures import noise
from torch.nn import functional as F

import langadapt
from langadapt.data.classification import ClassificationSet, ClassNames
from langadapt.errors import LangadaptWarning
from langadapt.evaluation.classification import LearnedScorer, classification_json, evaluate_classification
from langadapt.evaluation.page import Page, page_html
from langadapt.evaluation.plots import confusion_svg
from langadapt.models import LanguageModel
from langadapt.models.prompts import class_embeddings
from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill

TEMPLATES = ("una foto de {label}", "{label} en mar")
# In both languages: names of which the teacher knows no word are one row to it, and tie as rounding has it.
NAMES = {english: f"{spanish} {english}" for english, spanish in COLOURS.items()}


@pytest.fixture(scope="module")
def model(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    out = tmp_path_factory.mktemp("classes") / "es"
    settings = [
        "distill.epochs=2",
        f"prompts={json.dumps(list(TEMPLATES))}",
        "english_prompts=['a {label} cat']",
    ]
    found = override(find_language(str(language_folder / "es.yaml")), settings)
    distill(found, out, report=lambda progress: None, options=RunOptions(device=torch.device("cpu")))
    return langadapt.load(out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ClassificationSet:
    folder = tmp_path_factory.mktemp("colours")
    classes = tuple(
        ClassNames(
            folder=english, names=(name, "gato cat") if english == "red" else (name,), english=(english,)
        )
        for english, name in NAMES.items()
    )
    paths = []
    for number in range(18):
        paths.append(folder / f"{number}.png")
        noise((40, 32), 20 * number + 5, seed=number).save(paths[-1])
    labels = np.arange(18) % len(classes)
    return ClassificationSet(
        name="colours", language="es", images=tuple(paths), labels=labels, classes=classes
    )


def slow_top1(images: torch.Tensor, classes: torch.Tensor, labels: list[int]) -> float:
    cosines = (images.double() @ classes.double().T).tolist()
    right = 0
    for row, label in zip(cosines, labels, strict=True):
        right += all(row[label] > value + 1e-9 for c, value in enumerate(row) if c != label)
    return 100 * right / len(labels)


def test_rows_equal_the_slow_oracle(
    model: LanguageModel, data: ClassificationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGADAPT_PRECISION", "float32")
    card = evaluate_classification(data, model)
    assert all("|precision:cpu-float32|" in scores.signature for _, scores in card.rows)
    images = model.encode_images(list(data.images))

    def mean_rows(encode, templates, names) -> torch.Tensor:
        return torch.stack(
            [
                F.normalize(
                    torch.stack([encode(t.replace("{label}", n)) for t in templates for n in group]).mean(0),
                    dim=0,
                )
                for group in names
            ]
        )

    def student(text: str) -> torch.Tensor:
        return model.encode_text([text])[0]

    def teacher(text: str) -> torch.Tensor:
        given = model.teacher.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            return F.normalize(model.teacher.module.get_text_features(**given).pooler_output[0], dim=-1)

    own, english = [c.names for c in data.classes], [c.english for c in data.classes]
    labels = data.labels.tolist()
    expected = {
        "student, all templates": slow_top1(images, mean_rows(student, TEMPLATES, own), labels),
        "student, first template": slow_top1(images, mean_rows(student, TEMPLATES[:1], own), labels),
        "teacher, English names": slow_top1(images, mean_rows(teacher, ["a {label} cat"], english), labels),
        "teacher, raw names": slow_top1(images, mean_rows(teacher, TEMPLATES, own), labels),
    }
    assert {name: scores.top1 for name, scores in card.rows} == pytest.approx(expected)
    rows = dict(card.rows)
    assert card.retention == pytest.approx(
        rows["student, all templates"].top1 / rows["teacher, English names"].top1
    )


def test_signatures_tell_the_rows_apart(model: LanguageModel, data: ClassificationSet) -> None:
    card = evaluate_classification(data, model)
    lines = {name: scores.signature for name, scores in card.rows}
    assert len(set(lines.values())) == 4
    assert "prompts:ensemble-2@" in lines["student, all templates"]
    assert "prompts:single@" in lines["student, first template"]
    assert f"text:{model.label}" in lines["student, first template"]
    assert "language:en" in lines["teacher, English names"]
    assert f"text:{model.teacher.source.label}" in lines["teacher, raw names"]


def test_an_ensemble_weighs_unit_rows_alike() -> None:
    rows = {"a x": [1.0, 0.0], "b x": [0.0, 1.0], "a y": [0.6, 0.8], "b y": [0.6, 0.8]}
    found = class_embeddings(
        [["x"], ["y"]], ["a {label}", "b {label}"], lambda t: torch.tensor([rows[i] for i in t])
    )
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_something_learned_stands_first(model: LanguageModel, data: ClassificationSet) -> None:
    right = LearnedScorer(
        name="oracle", prompts="learned-1", scores=lambda s: torch.eye(6)[torch.from_numpy(s.labels)]
    )
    card = evaluate_classification(data, model, learned=[right])
    name, scores = card.rows[0]
    assert (name, scores.top1, scores.top5) == ("oracle", 100.0, 100.0)
    assert "prompts:learned-1" in scores.signature
    rows = dict(card.rows)
    assert card.retention == pytest.approx(
        rows["student, all templates"].top1 / rows["teacher, English names"].top1
    )


def test_without_templates_the_names_stand_bare_and_a_warning_says_so(
    model: LanguageModel, data: ClassificationSet
) -> None:

    bare = replace(model.artifact, recipe=model.artifact.recipe.model_copy(update={"prompts": ()}))
    written = model.artifact.recipe.model_copy(update={"prompts": ("{label}",)})
    other = replace(model.artifact, recipe=written)
    cards = []
    for artifact in (bare, other):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            student = replace(model, artifact=artifact)
            cards.append(evaluate_classification(data, student))
        told = [str(item.message) for item in said if issubclass(item.category, LangadaptWarning)]
        assert any("nobody has written prompts in Spanish (es)" in line for line in told) == (
            artifact is bare
        )
    (_, first), (_, second) = cards[0].rows[0], cards[1].rows[0]
    assert (first.top1, first.signature) == (second.top1, second.signature)


def test_pictures_and_tables_show_every_class(model: LanguageModel, data: ClassificationSet) -> None:
    card = evaluate_classification(data, model)
    scores = card.rows[0][1]
    svg = confusion_svg(scores.confusion, card.classes)
    shown = sum(images > 0 for row in scores.confusion for images in row)
    assert svg.count("<title>") == shown
    worst = card.class_table().rows
    recalls = [float(row.cells[0]) for row in worst]
    assert recalls == sorted(recalls)
    assert {row.name for row in worst} == set(NAMES.values())
    assert sum(int(row.cells[1]) for row in worst) == 18
    assert [row.name for row in card.class_table(most=2).rows] == [row.name for row in worst[:2]]
    assert card.class_table(most=2).unit == "class (the worst 2 of 6)"
    page = page_html(Page(title="t", classifications=[card]))
    assert page.count("</svg>") == 1
    assert page.count("<table>") == 2
    assert all(name in page for name in NAMES.values())
    (plain,) = json.loads(classification_json([card]))["classifications"]
    assert plain["rows"]["student, all templates"]["top1"] == scores.top1
    assert plain["classes"] == list(NAMES.values())


def test_names_in_the_picture_are_no_markup() -> None:
    svg = confusion_svg([[1, 0], [1, 0]], ["<b>", "&"])
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg
