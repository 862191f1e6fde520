"""One file, many data recipes."""

from pathlib import Path

import pytest

from langadapt.errors import RecipeError
from langadapt.recipes import ParallelRecipe, RetrievalRecipe, all_data_recipes, data_recipe, find
from langadapt.recipes.variants import expand

FAMILY = """
name: news-en-{code}
title: News, English and {language}
language: "{code}"
licence: unknown
source: {kind: hub, repo: org/news, config: "{config}", split: train}
columns: {english: translation.en, target: "translation.{code}"}
expected_rows: "{rows}"
variants:
  - {code: de, language: German, config: de-en, rows: 500}
  - {code: sw, language: Swahili, config: null, rows: null}
"""


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data_recipes" / "parallel"
    folder.mkdir(parents=True)
    monkeypatch.setattr(find, "shipped_folder", lambda name: tmp_path / name)
    (folder / "news.yaml").write_text(FAMILY, encoding="utf-8")
    single = (
        "name: own\ntitle: Own\nlicence: unknown\nlanguage: zh\nsource: {kind: files, paths: [own.tsv]}\n"
    )
    (folder / "own.yaml").write_text(single, encoding="utf-8")
    return folder


def test_each_row_is_a_recipe_and_values_keep_their_type(shipped: Path):
    names = [file.recipe.name for file in all_data_recipes(ParallelRecipe)]
    assert names == ["news-en-de", "news-en-sw", "own"]
    german = data_recipe(ParallelRecipe, "news-en-de")
    assert (german.path, german.shipped) == (shipped / "news.yaml", True)
    assert german.recipe == ParallelRecipe.model_validate(
        {
            "name": "news-en-de",
            "title": "News, English and German",
            "language": "de",
            "licence": "unknown",
            "source": {"kind": "hub", "repo": "org/news", "config": "de-en", "split": "train"},
            "columns": {"english": "translation.en", "target": "translation.de"},
            "expected_rows": 500,
        }
    )
    swahili = data_recipe(ParallelRecipe, "news-en-sw").recipe
    assert (swahili.source.config, swahili.expected_rows) == (None, None)  # type: ignore[union-attr]


def test_a_name_outside_the_family_is_refused_with_its_neighbours(shipped: Path):
    for name in ("news-en-dd", "news"):
        with pytest.raises(RecipeError, match=f"no parallel data recipe '{name}'; near: .*news-en-de"):
            data_recipe(ParallelRecipe, name)
    with pytest.raises(RecipeError, match="no retrieval data recipe 'news-en-de'"):
        data_recipe(RetrievalRecipe, "news-en-de")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"code": "de"}], "variants.0.rows: is missing, the recipe asks for it"),
        ([{"code": "de", "rows": 1, "config": "x"}], "variants.0.config: is not used by the recipe"),
        ([{"code": "de", "rows": 1}] * 2, "variants.1: a second recipe of the name a-de"),
        ([], "variants: expected a list of mappings"),
        ("de", "variants: expected a list of mappings"),
    ],
)
def test_a_table_that_does_not_fit(rows: object, words: str):
    with pytest.raises(RecipeError, match=r"a\.yaml: ") as caught:
        expand({"name": "a-{code}", "expected_rows": "{rows}", "variants": rows}, where="a.yaml")
    assert words in str(caught.value)


def test_a_fault_names_file_and_recipe(shipped: Path):
    text = FAMILY.replace("rows: 500", "rows: many")
    (shipped / "news.yaml").write_text(text, encoding="utf-8")
    (shipped / "news.yaml").rename(shipped / "news2.yaml")  # not the file that was read before
    with pytest.raises(
        RecipeError, match=r"news2\.yaml: news-en-de: expected_rows: expected int, got 'many'"
    ):
        all_data_recipes(ParallelRecipe)


def test_a_family_is_named_after_its_file(shipped: Path):
    (shipped / "news.yaml").rename(shipped / "other.yaml")
    with pytest.raises(RecipeError, match=r"name: 'news-en-de' must start with the file's name 'other-'"):
        all_data_recipes(ParallelRecipe)


def test_a_family_has_a_row_for_each_language_of_the_table(shipped: Path):
    head, _, _ = FAMILY.partition("variants:")
    head = head.replace('"{config}"', '"{flores}"').replace('expected_rows: "{rows}"\n', "")
    (shipped / "news.yaml").write_text(head + "variants: languages\nwithout: [sw]\n", encoding="utf-8")
    (shipped.parents[1] / "languages").mkdir()
    rows = [
        "# where it was read",
        "code\tname\tflores",
        "de\tGerman\tdeu_Latn",
        "sw\tSwahili\tswh_Latn",
        "qu\tQ\t",
    ]
    (shipped.parents[1] / "languages" / "table.tsv").write_text("\n".join(rows), encoding="utf-8")
    assert [file.recipe.name for file in all_data_recipes(ParallelRecipe)] == ["news-en-de", "own"]
    german = data_recipe(ParallelRecipe, "news-en-de").recipe
    assert (german.title, german.source.config) == ("News, English and German", "deu_Latn")  # type: ignore[union-attr]
