"""Every shipped recipe, found recursively: it parses, its names resolve and its facts carry their source."""

from pathlib import Path

import pytest

from langadapt.recipes import (
    ClassificationRecipe,
    DataCard,
    HubSource,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    data_recipe,
    dump_recipe,
    find_language,
    language_codes,
    read_yaml,
    shipped_data_recipes,
    shipped_folder,
)
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.strict_yaml import parse

LANGUAGES = sorted(shipped_folder("languages").rglob("*.y*ml"))
DATA = sorted(shipped_folder("data_recipes").rglob("*.y*ml"))
SCHEMAS: dict[str, type[DataCard]] = {
    "parallel": ParallelRecipe,
    "pairs": PairsRecipe,
    "retrieval": RetrievalRecipe,
    "classification": ClassificationRecipe,
}


def data_card(path: Path) -> DataCard:
    schema = SCHEMAS[path.parent.name]
    return parse(schema, read_yaml(path), where=str(path))


def by_stem(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=LANGUAGES, ids=by_stem)
def language_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(params=DATA, ids=by_stem)
def data_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_languages_are_these():
    assert {path.stem for path in LANGUAGES} == {"zh", "de", "fr", "cs", "ja", "sw", "qu"}
    assert language_codes() == ["cs", "de", "fr", "ja", "qu", "sw", "zh"]


def test_there_is_data_of_every_kind():
    assert {path.parent.name for path in DATA} == set(SCHEMAS)
    listed = [name for kind in SCHEMAS for name in shipped_data_recipes(kind)]
    assert sorted(listed) == sorted(path.stem for path in DATA)


def test_no_recipe_lies_where_it_is_not_found():
    assert {path.parent for path in LANGUAGES} == {shipped_folder("languages")}
    assert {path.parent.parent for path in DATA} == {shipped_folder("data_recipes")}
    assert {path.suffix for path in LANGUAGES + DATA} == {".yaml"}


def test_a_language_is_found_by_its_stem(language_path: Path):
    found = find_language(language_path.stem)
    assert found.recipe.code == language_path.stem
    assert (found.path, found.shipped) == (language_path, True)


def test_a_data_recipe_is_found_by_its_stem(data_path: Path):
    found = data_recipe(SCHEMAS[data_path.parent.name], data_path.stem)
    assert found.recipe.name == data_path.stem
    assert (found.path, found.shipped) == (data_path, True)


def test_a_language_names_data_of_its_own(language_path: Path):
    recipe = find_language(language_path.stem).recipe
    own = {recipe.code, recipe.iso639_3}
    for name in recipe.distill.data:
        assert data_recipe(ParallelRecipe, name).recipe.language in own, name
    assert recipe.evaluate
    for name in recipe.evaluate:
        assert data_recipe(RetrievalRecipe, name).recipe.language in own, name


def test_a_language_is_complete(language_path: Path):
    recipe = find_language(language_path.stem).recipe
    assert 5 <= len(recipe.prompts) <= 8
    assert 4 <= len(recipe.examples) <= 6
    assert len(set(recipe.prompts)) == len(recipe.prompts)
    assert len(set(recipe.examples)) == len(recipe.examples)
    assert recipe.text_model_reason


def test_models_are_pinned(language_path: Path):
    recipe = find_language(language_path.stem).recipe
    for model in (recipe.teacher, recipe.text_model):
        assert model.revision is not None or model.unverified, model.repo


def test_a_hub_source_is_pinned(data_path: Path):
    card = data_card(data_path)
    source = getattr(card, "source", None)
    if isinstance(source, HubSource):
        assert source.revision is not None or card.unverified


def test_a_licence_has_a_source(data_path: Path):
    card = data_card(data_path)
    assert card.licence == "unknown" or card.licence_source or card.unverified


def test_a_recipe_says_where_its_data_come_from(data_path: Path):
    assert (data_card(data_path).homepage or "").startswith("https://")


def test_shared_files_stay_below_one_folder(data_path: Path):
    card = data_card(data_path)
    paths: list[str] = []
    if isinstance(card, RetrievalRecipe):
        paths = [*card.captions, *card.english, *filter(None, (card.images, card.image_names))]
    elif isinstance(card, ClassificationRecipe):
        paths = [card.images, *filter(None, [card.classes])]
    elif isinstance(card, ParallelRecipe | PairsRecipe) and not isinstance(card.source, HubSource):
        source = card.source.model_dump()
        paths = [*source.get("paths", ()), *filter(None, (source.get("english"), source.get("target")))]
    for path in paths:
        assert not path.startswith(("/", "~")), path
        assert ".." not in Path(path).parts[1:], path


def test_a_language_survives_dump_and_parse(language_path: Path, tmp_path: Path):
    recipe = find_language(language_path.stem).recipe
    copy = tmp_path / language_path.name
    copy.write_text(dump_recipe(recipe), encoding="utf-8")
    assert parse(LanguageRecipe, read_yaml(copy), where="copy") == recipe


def test_a_data_recipe_survives_dump_and_parse(data_path: Path, tmp_path: Path):
    card = data_card(data_path)
    copy = tmp_path / data_path.name
    copy.write_text(dump_recipe(card), encoding="utf-8")
    assert parse(SCHEMAS[data_path.parent.name], read_yaml(copy), where="copy") == card
