"""Every shipped recipe, found recursively: it parses, its names resolve and its facts carry their source."""

from functools import cache
from pathlib import Path

import pytest

from langadapt.recipes import (
    ClassificationRecipe,
    DataCard,
    HubSource,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    all_data_recipes,
    data_recipe,
    dump_recipe,
    find_language,
    read_yaml,
    shipped_folder,
    shipped_languages,
)
from langadapt.recipes.find import RecipeFile
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.yaml import parse
from tools.language_table import DOCUMENT, by_hand, steps, written

LANGUAGES = sorted(shipped_folder("languages").rglob("*.y*ml"))
FILES = sorted(shipped_folder("data_recipes").rglob("*.y*ml"))
SCHEMAS: dict[str, type[DataCard]] = {
    "parallel": ParallelRecipe,
    "pairs": PairsRecipe,
    "retrieval": RetrievalRecipe,
    "classification": ClassificationRecipe,
}
NAMES = {kind: [file.recipe.name for file in all_data_recipes(schema)] for kind, schema in SCHEMAS.items()}
DATA = [(kind, name) for kind, names in NAMES.items() for name in names]

XTD10 = "de en es fr it ja ko pl ru tr zh"
CROSSMODAL = """
    ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl
    pt quz ro ru sv sw te th tr uk vi zh
"""
LOW_RESOURCE = """
    sw ha yo ig zu am so qu gn ay ug ti lo km my ne si mi rw xh ln wo
    kk ky uz mn ps sd ur ta ml mr gu pa te fil
"""


@cache
def data(kind: str, name: str) -> RecipeFile[DataCard]:
    return data_recipe(SCHEMAS[kind], name)


@pytest.fixture(params=shipped_languages())
def recipe(request: pytest.FixtureRequest, languages: dict[str, LanguageRecipe]) -> LanguageRecipe:
    return languages[request.param]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def cards(request: pytest.FixtureRequest) -> list[DataCard]:
    """The data recipes of one file: one, or a family."""
    path: Path = request.param
    kind = path.parent.name
    found = [data(kind, name) for name in NAMES[kind]]
    return [item.recipe for item in found if item.path == path]


def test_the_list_of_languages_is_complete():
    # The file of Crossmodal-3600 has ISO 639-3 for Cusco Quechua; the language's two-letter code is qu.
    images = {"qu" if code == "quz" else code for code in f"{XTD10} {CROSSMODAL}".split()} - {"en"}
    assert len(XTD10.split()) == 11
    assert len(CROSSMODAL.split()) == 36
    assert len(images) == 35
    assert len(set(LOW_RESOURCE.split())) >= 15
    assert {name for name in shipped_languages() if "-" not in name} == images | set(LOW_RESOURCE.split())
    assert len(shipped_languages()) == len(LANGUAGES) == 69, "66 languages and three variants"


def test_every_test_set_of_images_is_there_and_used(languages: dict[str, LanguageRecipe]):
    assert {name for name in NAMES["retrieval"] if name.startswith("xtd10-")} == {
        f"xtd10-{code}" for code in XTD10.split() if code != "en"
    }
    assert {name for name in NAMES["retrieval"] if name.startswith("crossmodal-3600-")} == {
        f"crossmodal-3600-{code}" for code in CROSSMODAL.split() if code != "en"
    }
    used = {name for recipe in languages.values() for name in recipe.evaluate}
    found = [data("retrieval", name).recipe for name in NAMES["retrieval"]]
    images = {recipe.name for recipe in found if isinstance(recipe, RetrievalRecipe) and recipe.images}
    assert images <= used


def test_codes_are_unique(languages: dict[str, LanguageRecipe]):
    recipes = [recipe for name, recipe in languages.items() if "-" not in name]  # variants have a dash
    for key in ("code", "name", "native_name", "iso639_3"):
        values = [getattr(recipe, key) for recipe in recipes]
        assert len(set(values)) == len(values), key


def test_there_is_data_of_every_kind():
    assert {path.parent.name for path in FILES} == set(SCHEMAS)
    assert len({name for _, name in DATA}) == len(DATA)
    assert {data(kind, name).path for kind, name in DATA} == set(FILES)


def test_no_recipe_lies_where_it_is_not_found():
    assert {path.parent for path in LANGUAGES} == {shipped_folder("languages")}
    assert {path.parent.parent for path in FILES} == {shipped_folder("data_recipes")}
    assert {path.suffix for path in LANGUAGES + FILES} == {".yaml"}


def test_a_language_is_found_by_its_stem():
    found = find_language("no")
    assert (found.path, found.shipped) == (shipped_folder("languages") / "no.yaml", True)
    assert sorted(path.stem for path in LANGUAGES) == shipped_languages()


def test_a_file_is_named_after_its_code(languages: dict[str, LanguageRecipe]):
    assert all(recipe.code in (name, name.partition("-")[0]) for name, recipe in languages.items())


def test_a_data_recipe_is_found_by_its_name():
    for kind, name in DATA:
        found = data(kind, name)
        assert (found.recipe.name, found.path.parent.name, found.shipped) == (name, kind, True)
        assert name == found.path.stem or name.startswith(f"{found.path.stem}-")


def test_a_language_names_data_of_its_own(recipe: LanguageRecipe):
    own = {recipe.code, recipe.iso639_3}
    assert recipe.evaluate
    named = [("parallel", name) for name in recipe.distill.data]
    named += [("retrieval", name) for name in recipe.evaluate]
    for kind, name in named:
        assert data(kind, name).recipe.language in own, name  # type: ignore[attr-defined]


def test_nothing_is_fetched_by_hand(languages: dict[str, LanguageRecipe]):
    cards = {name: data(kind, name).recipe for kind, name in DATA}
    counted = {name: steps(recipe, cards) for name, recipe in languages.items()}
    assert {name: found for name, found in counted.items() if any(found.values())} == {}
    # Photos where any were found; elsewhere sentences.
    with_photos = {
        recipe.code
        for recipe in languages.values()
        if any(not by_hand(cards[name]) and cards[name].images for name in recipe.evaluate)  # type: ignore[attr-defined]
    }
    assert len(with_photos) == 35
    assert {name for name, card in cards.items() if by_hand(card)} == {
        "babel-imagenet", "coco-cn-test", "flickr30k-cn-test", "flickr8k-cn-test-translated",
        "flickr8k-cn-test-written", "multi30k-task2-de",
    }  # fmt: skip


def test_what_is_got_by_hand_says_how(cards: list[DataCard]):
    assert all(card.how_to_get for card in cards if by_hand(card))


def test_the_table_in_the_documents_is_that_of_the_recipes():
    text = DOCUMENT.read_text("utf-8")
    assert written(text) == text


def test_a_language_is_complete(recipe: LanguageRecipe):
    assert 5 <= len(recipe.prompts) <= 8
    assert 4 <= len(recipe.examples) <= 6
    assert len(set(recipe.prompts)) == len(recipe.prompts)
    assert len(set(recipe.examples)) == len(recipe.examples)
    assert recipe.text_model_reason


def test_models_are_pinned_and_say_where_that_was_read(recipe: LanguageRecipe):
    for model in (recipe.teacher, recipe.text_model):
        if model.unverified:
            continue
        assert model.revision is not None, model.repo
        assert f"https://huggingface.co/{model.repo}" in (model.licence_source or ""), model.repo
    assert "https://" in (recipe.text_model_reason or "")


def test_a_hub_source_is_pinned_and_says_where_that_was_read(cards: list[DataCard]):
    for card in cards:
        source = getattr(card, "source", None)
        if isinstance(source, HubSource) and not card.unverified:
            assert source.revision is not None
            assert (
                f"https://huggingface.co/datasets/{source.repo}" in f"{card.homepage} {card.licence_source}"
            )


def test_a_licence_has_a_source(cards: list[DataCard]):
    assert cards
    for card in cards:
        assert card.licence == "unknown" or "https://" in (card.licence_source or "") or card.unverified


def test_a_recipe_says_where_its_data_come_from(cards: list[DataCard]):
    assert all((card.homepage or "").startswith("https://") for card in cards)


def test_shared_files_stay_below_one_folder(cards: list[DataCard]):
    for card in cards:
        paths: list[str] = []
        if isinstance(card, RetrievalRecipe):
            places = (card.images, card.image_names)
            paths = [*card.captions, *card.english, *filter(None, places)]
        elif isinstance(card, ClassificationRecipe):
            paths = [card.images, *filter(None, [card.classes])]
        elif isinstance(card, ParallelRecipe | PairsRecipe) and not isinstance(card.source, HubSource):
            source = card.source.model_dump()
            paths = [*source.get("paths", ()), *filter(None, (source.get("english"), source.get("target")))]
        for path in paths:
            assert not path.startswith(("/", "~")), path
            assert ".." not in Path(path).parts[1:], path


@pytest.mark.parametrize("code", ["no", "ar", "si", "yo", "zh"])
def test_a_language_survives_dump_and_parse(code: str, languages: dict[str, LanguageRecipe], tmp_path: Path):
    recipe = languages[code]
    copy = tmp_path / f"{code}.yaml"
    copy.write_text(dump_recipe(recipe), encoding="utf-8")
    assert parse(LanguageRecipe, read_yaml(copy), where="copy") == recipe


def test_data_recipes_survive_dump_and_parse(cards: list[DataCard], tmp_path: Path):
    card = cards[-1]
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(card), encoding="utf-8")
    assert parse(type(card), read_yaml(copy), where="copy") == card
