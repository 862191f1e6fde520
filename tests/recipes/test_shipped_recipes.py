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
from langadapt.recipes.authoring import available
from langadapt.recipes.find import RecipeFile, language_table
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


@pytest.fixture(scope="module")
def cards() -> list[DataCard]:
    """All data recipes."""
    return [data(kind, name).recipe for kind, name in DATA]


def test_the_list_of_languages_is_complete():
    # The file of Crossmodal-3600 has ISO 639-3 for Cusco Quechua; the language's two-letter code is qu.
    images = {"qu" if code == "quz" else code for code in f"{XTD10} {CROSSMODAL}".split()} - {"en"}
    assert len(XTD10.split()) == 11
    assert len(CROSSMODAL.split()) == 36
    assert len(images) == 35
    assert len(set(LOW_RESOURCE.split())) >= 15
    written = {path.stem for path in LANGUAGES}
    assert written == images | set(LOW_RESOURCE.split())
    assert len(written) == 66
    table = language_table(shipped_folder("languages"))
    assert sorted(table) == shipped_languages()
    assert len(table) == 202


def test_every_test_set_of_images_is_there_and_used(languages: dict[str, LanguageRecipe]):
    assert {name for name in NAMES["retrieval"] if name.startswith("xtd10-")} == {
        f"xtd10-{code}" for code in XTD10.split() if code != "en"
    }
    assert {name for name in NAMES["retrieval"] if name.startswith("crossmodal-3600-")} == {
        f"crossmodal-3600-{code}" for code in CROSSMODAL.split() if code != "en"
    }
    used = {name for recipe in languages.values() for name in recipe.evaluate}
    found = [data("retrieval", name).recipe for name in NAMES["retrieval"]]
    images = [recipe for recipe in found if isinstance(recipe, RetrievalRecipe) and recipe.images]
    by_people = {recipe.name for recipe in images if not recipe.machine_translated}
    assert by_people <= used
    # A machine's captions score a language only where no people's do.
    of_people = {data("retrieval", name).recipe.language for name in by_people}  # type: ignore[attr-defined]
    translated = {recipe.language for recipe in images if recipe.machine_translated and recipe.name in used}
    assert not translated & of_people
    assert all(recipe.machine_translated == recipe.name.startswith("xtd200-") for recipe in images)


def test_codes_are_unique(languages: dict[str, LanguageRecipe]):
    recipes = list(languages.values())
    for key in ("code", "name", "native_name"):
        values = [getattr(recipe, key) for recipe in recipes]
        assert len(set(values)) == len(values), key
    scripts = [(recipe.iso639_3, recipe.scripts) for recipe in recipes]
    assert len(set(scripts)) == len(scripts)


def test_a_second_script_has_a_code_of_its_own():
    assert find_language("zho").recipe.scripts == ("Hans", "Hant")
    for asked, (code, script, flores) in {
        "zho_Hant": ("zh-hant", "Hant", "zho_Hant"),
        "kas_Deva": ("ks-deva", "Deva", "kas_Deva"),
        "kas": ("ks", "Arab", "kas_Arab"),
    }.items():
        recipe = find_language(asked).recipe
        assert (recipe.code, recipe.scripts) == (code, (script,))
        card = data("retrieval", f"flores-200-{code}").recipe
        assert isinstance(card, RetrievalRecipe)
        assert (card.language, card.columns.caption) == (code, flores)
    parallel = [file.recipe for file in all_data_recipes(ParallelRecipe)]
    offered = available(find_language("ace-arab").recipe, parallel, []).parallel
    assert [card.name for card in offered] == ["laion-coco-en-ace-arab"], "nothing in Latin letters"


def test_derived_recipes_follow_from_the_table(languages: dict[str, LanguageRecipe]):
    """The truth here was read in the lists that the table names, apart from the code that reads it."""
    welsh, tibetan, kanuri = languages["cy"], languages["bo"], languages["knc-arab"]
    assert (welsh.name, welsh.native_name, welsh.iso639_3) == ("Welsh", "Cymraeg", "cym")
    assert (welsh.text_model.repo, welsh.text_model.prefix) == ("intfloat/multilingual-e5-small", "query: ")
    assert welsh.distill.data == ("laion-coco-en-cy", "opus-100-en-cy")
    assert (tibetan.scripts, tibetan.direction) == (("Tibt",), "ltr")
    assert tibetan.text_model.repo == "cis-lmu/glot500-base"
    assert "counts 273489 sentences" in (tibetan.text_model_reason or "")
    assert (kanuri.scripts, kanuri.direction) == (("Arab",), "rtl")
    assert "list Central Kanuri (Arabic script) in this script" in (kanuri.text_model_reason or "")
    assert [name for name, recipe in languages.items() if not recipe.prompts] == [
        name for name in languages if name not in {path.stem for path in LANGUAGES}
    ]
    assert data("parallel", "laion-coco-en-cy").recipe.source.where == {"captions": "cym_Latn"}  # type: ignore[attr-defined]
    assert "laion-coco-en-sat" not in NAMES["parallel"], "its translator has no Santali in Ol Chiki"


def test_there_is_data_of_every_kind():
    assert {path.parent.name for path in FILES} == set(SCHEMAS)
    assert len({name for _, name in DATA}) == len(DATA)
    assert {data(kind, name).path for kind, name in DATA} == set(FILES)


def test_no_recipe_lies_where_it_is_not_found():
    assert {path.parent for path in LANGUAGES} == {shipped_folder("languages")}
    assert {path.parent.parent for path in FILES} == {shipped_folder("data_recipes")}
    assert {path.suffix for path in LANGUAGES + FILES} == {".yaml"}


def test_a_language_is_found_by_its_stem():
    for name in ("no", "cy"):  # with a file, and without
        found = find_language(name)
        assert (found.path, found.shipped) == (shipped_folder("languages") / f"{name}.yaml", True)


def test_a_file_is_named_after_its_code(languages: dict[str, LanguageRecipe]):
    assert all(recipe.code == name for name, recipe in languages.items())


def test_a_data_recipe_is_found_by_its_name():
    for kind, name in DATA:
        found = data(kind, name)
        assert (found.recipe.name, found.path.parent.name, found.shipped) == (name, kind, True)
        assert name == found.path.stem or name.startswith(f"{found.path.stem}-")


def test_a_language_names_data_of_its_own(languages: dict[str, LanguageRecipe]):
    for recipe in languages.values():
        own = {recipe.code, recipe.iso639_3}
        assert recipe.evaluate, recipe.code
        named = [("parallel", name) for name in recipe.distill.data]
        named += [("retrieval", name) for name in recipe.evaluate]
        for kind, name in named:
            assert data(kind, name).recipe.language in own, name  # type: ignore[attr-defined]


def test_nothing_is_fetched_by_hand(languages: dict[str, LanguageRecipe]):
    cards = {name: data(kind, name).recipe for kind, name in DATA}
    counted = {name: steps(recipe, cards) for name, recipe in languages.items()}
    assert {name: found for name, found in counted.items() if any(found.values())} == {}
    # Photos with captions by people where any were found; elsewhere a machine's; in one language sentences.
    photos: dict[bool, set[str]] = {True: set(), False: set()}
    for recipe in languages.values():
        for card in (cards[name] for name in recipe.evaluate):
            if isinstance(card, RetrievalRecipe) and card.images and not by_hand(card):
                photos[card.machine_translated].add(recipe.code)
    assert len(photos[False]) == 37
    assert {recipe.code for recipe in languages.values()} - photos[False] - photos[True] == {"sat"}
    assert {name for name, card in cards.items() if by_hand(card)} == {
        "babel-imagenet", "coco-cn-test", "flickr30k-cn-test", "flickr8k-cn-test-translated",
        "flickr8k-cn-test-written", "multi30k-task2-de",
    }  # fmt: skip


def test_what_is_got_by_hand_says_how(cards: list[DataCard]):
    assert [card.name for card in cards if by_hand(card) and not card.how_to_get] == []


def test_the_table_in_the_documents_is_that_of_the_recipes():
    text = DOCUMENT.read_text("utf-8")
    assert written(text) == text


def test_a_language_is_complete(languages: dict[str, LanguageRecipe]):
    for recipe in languages.values():
        assert 5 <= len(recipe.prompts) <= 8 or recipe.prompts == recipe.examples == (), recipe.code
        assert 4 <= len(recipe.examples) <= 6 or not recipe.prompts, recipe.code
        assert len(set(recipe.prompts)) == len(recipe.prompts), recipe.code
        assert len(set(recipe.examples)) == len(recipe.examples), recipe.code
        assert "https://" in (recipe.text_model_reason or ""), recipe.code


def test_models_are_pinned_and_say_where_that_was_read(languages: dict[str, LanguageRecipe]):
    for model in (model for recipe in languages.values() for model in (recipe.teacher, recipe.text_model)):
        if model.unverified:
            continue
        assert model.revision is not None, model.repo
        assert f"https://huggingface.co/{model.repo}" in (model.licence_source or ""), model.repo


def test_a_hub_source_is_pinned_and_says_where_that_was_read(cards: list[DataCard]):
    for card in cards:
        source = getattr(card, "source", None)
        if isinstance(source, HubSource) and not card.unverified:
            assert source.revision is not None, card.name
            assert (
                f"https://huggingface.co/datasets/{source.repo}" in f"{card.homepage} {card.licence_source}"
            )


def test_a_licence_has_a_source(cards: list[DataCard]):
    assert cards
    for card in cards:
        said = "https://" in (card.licence_source or "") or card.unverified
        assert card.licence == "unknown" or said, card.name


def test_a_recipe_says_where_its_data_come_from(cards: list[DataCard]):
    assert [card.name for card in cards if not (card.homepage or "").startswith("https://")] == []


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


def test_data_recipes_survive_dump_and_parse(tmp_path: Path):
    one_of_each_file = {data(kind, name).path: data(kind, name).recipe for kind, name in DATA}
    assert one_of_each_file.keys() == set(FILES)
    copy = tmp_path / "copy.yaml"
    for card in one_of_each_file.values():
        copy.write_text(dump_recipe(card), encoding="utf-8")
        assert parse(type(card), read_yaml(copy), where="copy") == card
