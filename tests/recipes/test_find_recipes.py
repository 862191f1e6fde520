"""From a name or a path to a recipe."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from langadapt.errors import RecipeError
from langadapt.recipes import (
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    authoring,
    data_recipe,
    dump_recipe,
    find,
    find_language,
    override,
)


def test_a_shipped_language_is_found_by_its_code():
    found = find_language("zh")
    assert (found.recipe.code, found.shipped, found.folder.name) == ("zh", True, "languages")
    assert find_language(str(found.path)) == found, "its file alone is not a whole recipe"


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("zhh", "zh"),
        ("ZH", "zh"),
        ("chinese", "zh"),
        ("Chinese", "zh"),
        ("中文", "zh"),
        ("jp", "ja"),
        ("deutsch", "de"),
        ("frensh", "fr"),
        ("Swahili", "sw"),
        ("quechua", "qu"),
    ],
)
def test_a_near_language_is_suggested(asked: str, near: str):
    with pytest.raises(RecipeError, match=f"no language '{asked}'; near: {near}[,;]"):
        find_language(asked)


@pytest.mark.parametrize("asked", ["kin", "kin_Latn", "rw"])
def test_a_language_is_found_by_its_other_codes(asked: str):
    assert (find_language(asked).recipe.code, find_language(asked).path.stem) == ("rw", "rw")


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(RecipeError, match="no language 'klingon'; `langadapt languages list`"):
        find_language("klingon")


def test_a_path_is_the_users_own(tmp_path: Path):
    own = tmp_path / "zh.yaml"
    own.write_text(dump_recipe(find_language("zh").recipe), encoding="utf-8")
    for name in (str(own), str(own.with_suffix(""))):
        found = find_language(name)
        assert (found.path, found.shipped, found.folder) == (own, False, tmp_path)


@pytest.fixture
def variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A shipped folder with two recipes of one language and one of another, all with their own rates."""
    folder = tmp_path / "languages"
    folder.mkdir()
    for name, rate in {"zh": 1e-3, "zh-e5": 2e-3, "de": 3e-3}.items():
        recipe = override(find_language(name.partition("-")[0]), [f"distill.learning_rate={rate}"]).recipe
        (folder / f"{name}.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    monkeypatch.setattr(find, "shipped_folder", lambda name: tmp_path / name)
    find.names_of_languages.cache_clear()
    yield folder
    find.names_of_languages.cache_clear()


def test_two_recipes_of_one_language_lie_in_one_folder(variants: Path):
    for name, rate in {"zh": 1e-3, "zh-e5": 2e-3}.items():
        for asked in (name, str(variants / name)):
            recipe = find_language(asked).recipe
            assert (recipe.code, recipe.distill.learning_rate) == ("zh", rate)
    assert find.shipped_languages() == ["de", "zh", "zh-e5"]


def test_a_new_recipe_copies_the_variant_or_else_the_language(variants: Path):
    for asked, source in {"zh-e5": "zh-e5", "zh-mine": "zh"}.items():
        (written,) = authoring.new_recipe_texts(asked).items()
        (variants / "copy.yaml").write_text(written[1], encoding="utf-8")
        recipe = find_language(str(variants / "copy")).recipe
        assert (written[0], recipe) == (f"{asked}.yaml", find_language(source).recipe)


@pytest.mark.parametrize(
    ("asked", "near"),
    [("zh-e6", "zh-e5, zh;"), ("Chinese", "zh;"), ("de-e5", "zh-e5")],
)
def test_a_variant_that_is_not_there(variants: Path, asked: str, near: str):
    with pytest.raises(RecipeError, match=f"no language '{asked}'; near: {near}"):
        find_language(asked)


def test_a_missing_path_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"zh\.yaml: no such recipe file"):
        find_language(str(tmp_path / "zh"))


def test_data_names_are_looked_up_in_their_kind():
    assert data_recipe(ParallelRecipe, "opus-100-en-zh").shipped
    with pytest.raises(RecipeError, match="no retrieval data recipe 'opus-100-en-zh'"):
        data_recipe(RetrievalRecipe, "opus-100-en-zh")
    with pytest.raises(RecipeError, match="no pairs data recipe 'opus-100-en-zh'"):
        data_recipe(PairsRecipe, "opus-100-en-zh")


def test_a_near_data_recipe_is_suggested():
    with pytest.raises(RecipeError, match="near: opus-100-en-zh"):
        data_recipe(ParallelRecipe, "opus-100-zh")


def test_a_relative_data_path_starts_at_the_recipe_that_names_it(tmp_path: Path):
    (tmp_path / "own.yaml").write_text(
        "name: own\ntitle: Own\nlicence: unknown\nlanguage: zh\nsource: {kind: files, paths: [own.tsv]}\n",
        encoding="utf-8",
    )
    found = data_recipe(ParallelRecipe, "own.yaml", folder=tmp_path)
    assert (found.recipe.name, found.shipped, found.folder) == ("own", False, tmp_path)
    with pytest.raises(RecipeError, match=r"own\.yaml: no such recipe file"):
        data_recipe(ParallelRecipe, "own.yaml", folder=tmp_path / "elsewhere")
