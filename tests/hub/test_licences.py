"""What licences mean together, as a literal table."""

import pytest

from langadapt.hub.licences import licence_sum, objections, terms_of
from langadapt.models.artifact import BaseModel, DataSource
from langadapt.recipes import ParallelRecipe, all_data_recipes


def corpus(licence: str, access: str = "open") -> DataSource:
    return DataSource(
        kind="parallel", name=f"c-{licence}", title="", language="xx", rows=1, blank_rows=0, fingerprint="",
        origin="", hub_repo=None, licence=licence, licence_source=None, homepage=None, citation=None,
        access=access, unverified=False,
    )  # fmt: skip


def model(licence: str) -> BaseModel:
    return BaseModel(repo=f"m/{licence}", revision="0" * 40, licence=licence)


@pytest.mark.parametrize(
    ("data", "models", "together"),
    [
        (["CC0-1.0"], ["MIT"], "apache-2.0"),
        (["CC-BY-4.0"], ["MIT", "Apache-2.0"], "cc-by-4.0"),
        (["CC-BY-4.0", "CC-BY-SA-3.0"], ["MIT"], "cc-by-sa-4.0"),
        (["CC-BY-4.0", "CC-BY-NC-4.0"], ["MIT"], "cc-by-nc-4.0"),
        (["CC-BY-SA-4.0", "cc-by-nc-2.0"], ["MIT"], "cc-by-nc-sa-4.0"),
        (["CC-BY-NC-SA-4.0"], ["MIT"], "cc-by-nc-sa-4.0"),
        (["CC0-1.0"], ["CC-BY-NC-4.0"], "cc-by-nc-4.0"),
        (["Flickr30k terms"], ["MIT"], "cc-by-nc-4.0"),
        (["unknown"], ["MIT"], "unknown"),
        (["CC0-1.0"], ["Gemma terms"], "unknown"),
        (["CC-BY-SA-4.0", "unknown"], ["MIT"], "unknown"),
        (["CC-BY-NC-4.0", "unknown"], ["MIT"], "other"),
    ],
)
def test_together(data: list[str], models: list[str], together: str) -> None:
    for order in (1, -1):
        total = licence_sum([corpus(one) for one in data[::order]], [model(one) for one in models])
        assert total.licence == together
        assert (total.name is not None) == (together == "other")
        assert total.commercial == (
            not any("nc" in one.lower() or "flickr" in one.lower() for one in data + models)
        )


def test_who_says_so_is_named() -> None:
    total = licence_sum([corpus("CC-BY-NC-4.0"), corpus("unknown"), corpus("MIT")], [model("odd")])
    assert total.noncommercial == ("c-CC-BY-NC-4.0",)
    assert total.unknown == ("c-unknown", "m/odd")


def test_what_forbids() -> None:
    nd, request = corpus("CC-BY-NC-ND-4.0"), corpus("ask us", access="request")
    assert len(objections([nd, request], [])) == 2
    allowed = [
        corpus("CC-BY-NC-4.0"),
        corpus("unknown"),
        corpus("MIT", access="request"),
        corpus("x", "gated"),
    ]
    assert objections(allowed, []) == []
    locked = model("CC-BY-ND-4.0")
    assert objections([], []) == [], "it is used, not shared"
    assert len(objections([], [locked])) == 1


@pytest.mark.parametrize("licence", ["CC-BY", "cc-by-nd-nc-4.0", "not cc-by-4.0", "", "research only"])
def test_what_is_not_known_is_not_guessed(licence: str) -> None:
    assert terms_of(licence) is None


def test_every_shipped_corpus_is_in_the_table_or_says_unknown() -> None:
    recipes = [file.recipe for file in all_data_recipes(ParallelRecipe)]
    assert len(recipes) > 5
    for recipe in recipes:
        assert terms_of(recipe.licence) is not None or recipe.licence == "unknown", recipe.name
