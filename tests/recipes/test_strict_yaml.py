"""What a recipe file may say, and what is said where it may not."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from langadapt.errors import RecipeError
from langadapt.recipes import LanguageRecipe, ParallelRecipe, RetrievalRecipe, dump_recipe, read_yaml
from langadapt.recipes.yaml import parse

MINIMAL = """\
code: no
name: Norwegian
native_name: norsk
iso639_3: nor
scripts: [Latn]
teacher: {repo: org/teacher}
text_model:
  repo: org/text
distill:
  data: [sentences]
"""

PARALLEL = """\
name: own
title: Own sentences
licence: unknown
language: "no"
source: {kind: files, paths: [own.tsv]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "no.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def language(folder: Path, text: str) -> LanguageRecipe:
    return parse(LanguageRecipe, read_yaml(written(folder, text)), where="no.yaml")


def message(folder: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        language(folder, text)
    return str(caught.value)


def test_no_is_a_text(tmp_path: Path):
    assert language(tmp_path, MINIMAL).code == "no"


@pytest.mark.parametrize(
    ("said", "value"),
    [("5e-4", 5e-4), ("1E-3", 1e-3), ("5.0e-4", 5e-4), ("2e1", 20.0), (".5", 0.5), ("1", 1.0)],
)
def test_a_learning_rate_is_a_number(tmp_path: Path, said: str, value: float):
    recipe = language(tmp_path, MINIMAL + f"  learning_rate: {said}\n")
    assert recipe.distill.learning_rate == value
    assert type(recipe.distill.learning_rate) is float


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("learning_rate: '5e-4'", "no.yaml: distill.learning_rate: expected number, got '5e-4'"),
        ("epochs: 2.5", "no.yaml: distill.epochs: expected int, got 2.5"),
        ("epochs: '3'", "no.yaml: distill.epochs: expected int, got '3'"),
        ("epochs: yes", "no.yaml: distill.epochs: expected int, got 'yes'"),
        ("epochs: true", "no.yaml: distill.epochs: expected int, got True"),
        ("epoch: 3", "no.yaml: distill.epoch: unknown key; did you mean 'epochs'?"),
        ("zzz: 3", "no.yaml: distill.zzz: unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path: Path, said: str, line: str):
    assert message(tmp_path, MINIMAL + f"  {said}\n") == line


def test_every_fault_gets_its_line(tmp_path: Path):
    found = message(tmp_path, MINIMAL + "  epochs: 2.5\n  warmup: 0.1\n").splitlines()
    assert found == [
        "no.yaml: distill.epochs: expected int, got 2.5",
        "no.yaml: distill.warmup: unknown key; did you mean 'warmup_fraction'?",
    ]


def test_a_missing_key_is_named(tmp_path: Path):
    assert (
        message(tmp_path, MINIMAL.replace("name: Norwegian\n", ""))
        == "no.yaml: name: required key is missing"
    )


def test_a_range_is_held(tmp_path: Path):
    assert message(tmp_path, MINIMAL + "  epochs: 0\n").startswith("no.yaml: distill.epochs: ")
    assert message(tmp_path, MINIMAL + "  learning_rate: .nan\n").startswith("no.yaml: ")
    assert message(tmp_path, MINIMAL + "  warmup_fraction: 1.5\n").startswith(
        "no.yaml: distill.warmup_fraction: "
    )


def test_a_short_revision_is_refused(tmp_path: Path):
    text = MINIMAL.replace("{repo: org/teacher}", "{repo: org/teacher, revision: e73636d}")
    assert "teacher.revision: expected a full commit hash" in message(tmp_path, text)


@pytest.mark.parametrize("prompt", ["a photo", "{label} and {label}", "{labels}"])
def test_a_prompt_needs_one_label(tmp_path: Path, prompt: str):
    assert "{label} exactly once" in message(tmp_path, MINIMAL + f'prompts: ["{prompt}"]\n')


def test_a_repeated_key_is_refused(tmp_path: Path):
    assert re.search(
        r"no\.yaml: line \d+ not valid YAML: .*epochs", message(tmp_path, MINIMAL + "  epochs: 1\n" * 2)
    )


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object:os.system {}",
        "!!python/object/apply:os.system [id]",
        "!!python/name:os.system",
        "!own 1",
    ],
)
def test_a_tag_is_refused(tmp_path: Path, tag: str):
    assert "not valid YAML" in message(tmp_path, MINIMAL + f"evaluate: {tag}\n")


@pytest.mark.parametrize("said", ["2024-01-01", "&again [*again]", "!!binary aGk=", ".inf"])
def test_a_value_without_a_plain_type_is_refused(tmp_path: Path, said: str):
    assert message(tmp_path, MINIMAL + f"evaluate: {said}\n").startswith("no.yaml: ")


@pytest.mark.parametrize("text", ["a: [1\n", "a: b: c\n", "\tcode: no\n", "a: 'b\n"])
def test_broken_yaml_names_file_and_line(tmp_path: Path, text: str):
    path = written(tmp_path, text)
    with pytest.raises(RecipeError, match=rf"{re.escape(str(path))}: line \d+ not valid YAML"):
        read_yaml(path)


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- a\n", "list"), ("just text\n", "str")])
def test_a_recipe_is_a_mapping(tmp_path: Path, text: str, kind: str):
    with pytest.raises(RecipeError, match=f"expected a mapping of keys, got {kind}"):
        read_yaml(written(tmp_path, text))


def test_broken_utf8_is_named(tmp_path: Path):
    path = tmp_path / "no.yaml"
    path.write_bytes(b"code: no\nname: Norv\xe9gien\n")
    with pytest.raises(RecipeError, match=r"no\.yaml: byte 19 is not UTF-8"):
        read_yaml(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"none\.yaml: no such recipe file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path):
    with pytest.raises(RecipeError, match="is a folder"):
        read_yaml(tmp_path)


def test_a_recipe_cannot_be_changed(tmp_path: Path):
    recipe = language(tmp_path, MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("trains", ["full", "embeddings", "{lora: {rank: 4}}", "[bitfit, {last: 1}]"])
def test_a_dumped_recipe_reads_back(tmp_path: Path, trains: str):
    text = MINIMAL.replace("  repo: org/text\n", f"  repo: org/text\n  trains: {trains}\n")
    recipe = language(tmp_path, text + 'prompts: ["et bilde: {label}", "no: {label}  ", "«{label}» 写真"]\n')
    copy = written(tmp_path, dump_recipe(recipe))
    assert parse(LanguageRecipe, read_yaml(copy), where="copy") == recipe


def test_trains_says_what_it_takes(tmp_path: Path):
    text = MINIMAL.replace("  repo: org/text\n", "  repo: org/text\n  trains: some\n")
    assert "embeddings, {last: n} or {lora: {rank: n}}" in message(tmp_path, text)


def test_asking_for_data_needs_an_address(tmp_path: Path):
    path = written(tmp_path, PARALLEL + "access: request\n")
    with pytest.raises(RecipeError, match="homepage or how_to_get must say where to ask"):
        parse(ParallelRecipe, read_yaml(path), where="no.yaml")


def test_a_short_data_revision_is_refused(tmp_path: Path):
    source = "source: {kind: hub, repo: org/data, revision: main}"
    path = written(tmp_path, re.sub(r"source: .*", source, PARALLEL))
    with pytest.raises(RecipeError, match=r"no\.yaml: source\.hub\.revision: "):
        parse(ParallelRecipe, read_yaml(path), where="no.yaml")


def test_an_unknown_format_is_refused(tmp_path: Path):
    text = re.sub(r"source: .*", "format: flickr\ncaptions: [a.txt]", PARALLEL)
    with pytest.raises(RecipeError, match=r"no\.yaml: format: .*got 'flickr'"):
        parse(RetrievalRecipe, read_yaml(written(tmp_path, text)), where="no.yaml")
