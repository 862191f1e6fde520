"""Several languages in one set: one backbone, the rows of each language's own model, the right language."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_language import sentences
from untrained import untrained_run

import langadapt
from langadapt.errors import DataError, ModelError
from langadapt.models.language_model import detect
from langadapt.recipes import LanguageRecipe
from langadapt.recipes.language import OneLanguage

TEXTS = [target for _, target in sentences()[::11]]


@pytest.fixture(scope="module")
def runs(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    own = {
        "es": [],
        "de": ["text_model.prefix='a '", "distill.max_tokens=6", "native_name=Deutsch"],
        "zh": ["native_name=中文", "examples=[一只红色的狗]", "scripts=[Hans]"],
        "sw": ["text_model.trains={last: 1}", "native_name=Kiswahili"],
    }
    return {
        code: untrained_run(language_folder, root / code, f"code={code}", *settings, seed=seed)
        for seed, (code, settings) in enumerate(own.items())
    }


@pytest.fixture(scope="module")
def languages(runs: dict[str, Path]) -> langadapt.LanguageSet:
    return langadapt.load_set(list(runs.values()))


def test_each_language_embeds_as_its_own_model(
    runs: dict[str, Path], languages: langadapt.LanguageSet, teacher_folder: Path
) -> None:
    assert languages.languages == ("es", "de", "zh", "sw")
    rows = {code: languages.encode_text(TEXTS, language=code) for code in runs}
    for code, run in runs.items():
        assert torch.equal(rows[code], langadapt.load(run).encode_text(TEXTS))
    assert min(float((rows["es"] - rows[code]).abs().max()) for code in ("de", "zh", "sw")) > 0.1


def test_what_stayed_frozen_is_held_once(languages: langadapt.LanguageSet) -> None:
    models = languages.models
    assert len({id(model.teacher.module) for model in models.values()}) == 1
    encoders = {code: model.student.text_model.encoder for code, model in models.items()}
    assert encoders["es"] is encoders["de"] is encoders["zh"]
    assert encoders["sw"] is not encoders["es"], "something of it trained"
    weights = {id(weight): weight for model in models.values() for weight in model.student.parameters()}
    one = sum(weight.numel() for weight in encoders["es"].parameters())
    adapters = sum(w.numel() for model in models.values() for w in model.student.adapter.parameters())
    assert sum(weight.numel() for weight in weights.values()) == 2 * one + adapters


def test_the_language_is_told_from_each_text(languages: langadapt.LanguageSet) -> None:
    texts = ["一只红色的狗", "el perro rojo corre por la calle", "狗", "der rote Hund läuft über die Straße"]
    assert languages.detect(texts) == ["zh", "es", "zh", "de"]
    expected = [languages.models[code].encode_text([text]) for code, text in zip(
        ["zh", "es", "zh", "de"], texts, strict=True)]  # fmt: skip
    torch.testing.assert_close(languages.encode_text(texts), torch.cat(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["123", "красная собака", "OK"], ids=["no letters", "other script", "too short"]
)
def test_what_cannot_be_told_is_refused(languages: langadapt.LanguageSet, text: str) -> None:
    with pytest.raises(DataError, match=r"text 1 \(.*\): cannot tell which of es, de, zh, sw it is in"):
        languages.encode_text(["el perro rojo corre por la calle", text])
    with pytest.raises(DataError, match="text 0 is empty"):
        languages.encode_text(["  "])


def test_a_language_of_several_scripts_is_found_in_each(languages: langadapt.LanguageSet) -> None:
    recipes = [model.artifact.recipe for model in languages.models.values()]
    serbian = recipes[0].model_copy(
        update={"code": "sr", "native_name": "српски", "examples": (), "scripts": ("Cyrl", "Latn")}
    )
    chinese: LanguageRecipe = recipes[2]
    texts = ["црвени пас трчи по плажи", "crveni pas trči po plaži", "Tom 在沙滩上奔跑 123"]
    assert detect(texts, [serbian, chinese]) == ["sr", "sr", "zh"]


def test_models_of_several_languages_are_told_apart(languages: langadapt.LanguageSet) -> None:
    """Two joint models and a single one, all of Latin script; within a model languages are no rivals."""
    recipe = languages.models["es"].artifact.recipe

    def joint(*codes: str, scripts: tuple[str, ...] = ("Latn",)) -> LanguageRecipe:
        each = tuple(OneLanguage(code=code, iso639_3="und", scripts=scripts) for code in codes)
        return recipe.model_copy(update={"code": "mul", "languages": codes, "each": each})

    north, south = joint("de", "no", "da"), joint("es", "fr")
    single = recipe.model_copy(update={"code": "pl"})
    texts = [
        "le chien rouge court dans la rue",
        "der rote Hund läuft über die Straße",
        "pies biegnie przez ulicę",
    ]
    assert detect(texts, [north, south, single]) == ["fr", "de", "pl"]
    assert detect(["en hund på stranden"], [north, single])[0] in ("no", "da")
    with pytest.raises(DataError, match="cannot tell which of de, no, da, pl"):
        detect(["OK"], [north, single])
    unknown = [joint("yue", scripts=("Hant", "Hans")), joint("qu", "ay")]
    assert detect(["一只红色的狗", "qam allqu"], unknown) == ["yue", "qu"], (
        "the scripts decide, py3langid knows none"
    )
    own = {"de": south, "zh": north}
    models = [
        replace(m, artifact=replace(m.artifact, recipe=own[c]))
        for c, m in languages.models.items()
        if c in own
    ]
    both = langadapt.LanguageSet(models=models)
    assert both.languages == ("es", "fr", "de", "no", "da")
    torch.testing.assert_close(
        both.encode_text(texts[:2]),
        torch.cat([model.encode_text([text]) for model, text in zip(models, texts, strict=False)]),
    )


def test_what_fits_no_set_is_one_line(
    runs: dict[str, Path], languages: langadapt.LanguageSet, language_folder: Path, tmp_path: Path,
    teacher_folder: Path,
) -> None:  # fmt: skip
    with pytest.raises(ModelError, match="no model of 'fr' in this set; it has es, de, zh, sw"):
        languages.encode_text(TEXTS, language="fr")
    with pytest.raises(ModelError, match="two models of the language es"):
        langadapt.load_set([runs["es"], runs["es"]])
    moved = tmp_path / "teacher"
    moved.mkdir()
    for path in teacher_folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    (moved / "more.json").write_text("{}")  # another revision
    other = untrained_run(language_folder, tmp_path / "it", "code=it", f"teacher.repo={moved}")
    with pytest.raises(ModelError, match=r"it: its teacher is teacher@.* one space and so one teacher"):
        langadapt.load_set([runs["es"], other])
