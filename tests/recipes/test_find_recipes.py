"""From a name or a path to a recipe."""

from pathlib import Path

import pytest

from langadapt.errors import RecipeError
from langadapt.recipes import (
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    data_recipe,
    dump_recipe,
    find_language,
)


def test_a_shipped_language_is_found_by_its_code():
    found = find_language("zh")
    assert (found.recipe.code, found.shipped, found.folder.name) == ("zh", True, "languages")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("zhh", "zh"),
        ("ZH", "zh"),
        ("chinese", "zh"),
        ("Chinese", "zh"),
        ("zho", "zh"),
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


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(RecipeError, match="no language 'klingon'; `langadapt languages list`"):
        find_language("klingon")


def test_a_path_is_the_users_own(tmp_path: Path):
    own = tmp_path / "zh.yaml"
    own.write_text(dump_recipe(find_language("zh").recipe), encoding="utf-8")
    for name in (str(own), str(own.with_suffix(""))):
        found = find_language(name)
        assert (found.path, found.shipped, found.folder) == (own, False, tmp_path)


def test_a_code_must_equal_its_file(tmp_path: Path):
    own = tmp_path / "mine.yaml"
    own.write_text(dump_recipe(find_language("zh").recipe), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"mine\.yaml: code: 'zh' must equal the file's name 'mine'"):
        find_language(str(own))


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
