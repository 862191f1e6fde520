"""`langadapt languages`: what is listed, a new language from template to loaded recipe, schemas."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from langadapt.recipes import find_language, read_yaml, shipped_folder, shipped_languages
from langadapt.recipes.authoring import KINDS, recipe_schema
from langadapt.recipes.find import shipped_values


def listed(langadapt, *options: str) -> dict[str, dict[str, object]]:
    said = langadapt("languages", "list", "--json", *options)
    assert said.code == 0, said.err
    return {row["recipe"]: row for row in json.loads(said.out)}


def test_the_list_says_what_data_there_is(langadapt) -> None:
    rows = listed(langadapt)
    assert len(rows) == 202
    assert all(row["code"] == name for name, row in rows.items())
    # Counted by hand in data_recipes/: OPUS-100 and captions; OPUS-100; mined sentences only.
    assert (rows["ja"]["tier"], rows["ja"]["counted_rows"]) == ("captions", 1_000_000 + 3_318_270 + 566_435)
    assert (rows["ne"]["tier"], rows["ne"]["counted_rows"]) == ("sentences", 406_381)
    assert (rows["yo"]["tier"], rows["yo"]["counted_rows"]) == ("scarce", 10_375)
    assert rows["yo"]["parallel"] == {
        "laion-coco-en-yo": None,
        "nllb-en-yo": None, "opus-100-en-yo": 10_375, "smol-en-yo": None, "tatoeba-en-yo": None
    }  # fmt: skip
    assert rows["tr"]["tests"] == [
        "crossmodal-3600-tr", "flores-200-tr", "wit-tr", "xflickrco-tr", "xtd10-tr", "xtd200-tr"
    ]  # fmt: skip
    assert rows["qu"]["tests"] == ["crossmodal-3600-quz"]
    assert sum(bool(row["has_images"]) for row in rows.values()) == 37
    assert (rows["yo"]["scored_on"], rows["sat"]["scored_on"]) == ("translated", "sentences")
    assert {name for name, row in rows.items() if row["made"] == "checked"} == {
        path.stem for path in shipped_folder("languages").glob("*.yaml")
    }
    assert (rows["cy"]["made"], rows["cy"]["data"]) == ("derived", ["laion-coco-en-cy", "opus-100-en-cy"])


def test_the_list_is_filtered(langadapt) -> None:
    rows = listed(langadapt, "--tier", "captions", "--text-model", "Glot500", "--images")
    assert set(rows) == {"mi"}
    table = langadapt("languages", "list", "--script", "Ethi")
    assert "Tigrinya" in table.out
    assert "2 of 202 recipes" in table.err
    captions = langadapt("languages", "list", "--tier", "captions").out
    assert "multilingual-e5-small" in captions
    assert max(map(len, captions.splitlines())) <= 80
    assert "…" not in captions, "a name was cut at 80 columns"
    wrong = langadapt("languages", "list", "--script", "Ethiopic")
    assert (wrong.code, "--script Ethiopic: there are Arab, Armn," in wrong.err) == (2, True)


def test_a_new_language_from_template_to_recipe(langadapt, tmp_path: Path) -> None:
    made = langadapt("languages", "new", "tig", "--out", tmp_path / "my")
    assert made.code == 0, made.err
    path = tmp_path / "my" / "tig.yaml"
    assert {file.name for file in path.parent.iterdir()} == {"tig.yaml", "tig-parallel.yaml"}

    empty = langadapt("languages", "show", path)
    assert empty.code == 2
    for key in ("name", "native_name", "iso639_3", "scripts"):
        assert f"tig.yaml: {key}: " in empty.err

    text = path.read_text(encoding="utf-8")
    for key, value in {"name": "Tigre", "native_name": "ትግረ", "iso639_3": "tig"}.items():
        text = text.replace(f"\n{key}:  #", f"\n{key}: {value}  #")
    text = text.replace("scripts: []", "scripts: [Ethi]")
    path.write_text(text, encoding="utf-8")
    recipe = find_language(str(path)).recipe
    assert (recipe.code, recipe.name, recipe.distill.data) == ("tig", "Tigre", ("./tig-parallel.yaml",))
    assert recipe.teacher == find_language("sw").recipe.teacher
    data = read_yaml(path.parent / "tig-parallel.yaml")
    assert [key for key, value in data.items() if value is None] == ["title", "homepage", "licence_source"]

    again = langadapt("languages", "new", "tig", "--out", tmp_path / "my")
    assert (again.code, "tig.yaml is there already and stays" in again.err) == (2, True)
    assert path.read_text(encoding="utf-8") == text


def test_nothing_is_written_beside_a_file_that_stays(langadapt, tmp_path: Path) -> None:
    (tmp_path / "tig-parallel.yaml").write_text("mine")
    assert langadapt("languages", "new", "tig", "--out", tmp_path).code == 2
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("tig-parallel.yaml", "mine")]
    assert langadapt("languages", "new", "tig", "--out", tmp_path / "tig-parallel.yaml").code == 2
    for code in ("Shona", "s", "../sn"):
        said = langadapt("languages", "new", code, "--out", tmp_path)
        assert (said.code, "expected a code of two or three" in said.err) == (2, True)


def test_a_shipped_language_is_copied(langadapt, tmp_path: Path) -> None:
    assert langadapt("languages", "new", "sw", "--out", tmp_path).code == 0
    assert find_language(str(tmp_path / "sw")).recipe == find_language("sw").recipe
    assert langadapt("languages", "new", "sw-mine", "--out", tmp_path).code == 0
    assert find_language(str(tmp_path / "sw-mine")).recipe == find_language("sw").recipe
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sw-mine.yaml", "sw.yaml"]
    assert langadapt("languages", "new", "tig-mine", "--out", tmp_path / "tig").code == 0
    assert sorted(file.name for file in (tmp_path / "tig").iterdir()) == [
        "tig-mine.yaml",
        "tig-parallel.yaml",
    ]
    assert read_yaml(tmp_path / "tig" / "tig-mine.yaml")["code"] == "tig"


def test_a_derived_language_is_copied_and_asks_for_prompts(langadapt, tmp_path: Path) -> None:
    assert langadapt("languages", "new", "cy", "--out", tmp_path).code == 0
    assert find_language(str(tmp_path / "cy")).recipe == find_language("cy").recipe
    assert read_yaml(tmp_path / "cy.yaml")["prompts"] == []


def test_every_shipped_file_fits_its_schema() -> None:
    folders = {kind: shipped_folder("data_recipes") / kind for kind in KINDS if kind != "language"}
    for kind, folder in {"language": shipped_folder("languages"), **folders}.items():
        schema = recipe_schema(kind)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        names = shipped_languages() if kind == "language" else [path.stem for path in folder.glob("*.yaml")]
        assert names, kind
        for name in names:
            values = shipped_values(name) if kind == "language" else read_yaml(folder / f"{name}.yaml")
            faults = [error.message[:200] for error in validator.iter_errors(values)]
            assert not faults, (name, faults)


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("language", "sw", {"code": "Swahili"}),
        ("language", "sw", {"scripts": []}),
        ("language", "sw", {"prompt": ["x"]}),
        ("language", "sw", {"teacher": {"revision": "x"}}),
        ("language", "sw", {"distill": {"data": ["x"], "epochs": 2.5}}),
        ("parallel", "eng-quz", {"expected_rows": "many"}),
        ("parallel", "eng-quz", {"expected_rows": "{rows}"}),
        ("parallel", "opus-100", {"variants": []}),
        ("parallel", "laion-coco", {"variants": "language"}),
        ("parallel", "opus-100", {"expected_rows": "many"}),
        ("parallel", "opus-100", {"source": {"kind": "files", "repo": "x"}}),
        ("retrieval", "coco-cn-test", {"format": "coco"}),
    ],
)
def test_a_fault_does_not_fit_the_schema(kind: str, name: str, change: dict[str, object]) -> None:
    folder = shipped_folder("data_recipes") / kind
    values = shipped_values(name) if kind == "language" else read_yaml(folder / f"{name}.yaml")
    validator = jsonschema.Draft202012Validator(recipe_schema(kind))
    assert validator.is_valid(values)
    assert not validator.is_valid({**values, **change})


def test_schemas_are_written_and_explain_their_keys(langadapt, tmp_path: Path) -> None:
    assert langadapt("languages", "schema", "--out", tmp_path / "schemas").code == 0
    names = {file.name for file in (tmp_path / "schemas").iterdir()}
    assert names == {f"{kind}.schema.json" for kind in KINDS}
    written = json.loads((tmp_path / "schemas" / "language.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(langadapt("languages", "schema", "--kind", "language").out)
    assert "ISO 15924" in written["properties"]["scripts"]["description"]
    for arguments in ((), ("--kind", "pair"), ("--kind", "pairs", "--out", tmp_path)):
        assert langadapt("languages", "schema", *arguments).code == 2


def test_a_variant_trains_into_a_folder_of_its_own_name(
    langadapt, language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(language_folder, tmp_path / "my")
    (tmp_path / "my" / "es.yaml").rename(tmp_path / "my" / "es-mine.yaml")
    monkeypatch.chdir(tmp_path)
    done = langadapt("distill", "--recipe", "my/es-mine", "--set", "distill.epochs=1")
    assert done.code == 0, done.err
    assert (tmp_path / "runs" / "es-mine" / "artifact.json").is_file()
