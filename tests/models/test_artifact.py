"""An artifact gives back what was trained, and nothing else under its name."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sealing import reseal
from tiny_language import sentences

import langadapt
from langadapt.errors import DataError, ModelError
from langadapt.models import Artifact
from langadapt.models.artifact import data_source
from langadapt.recipes import (
    AlignedFiles,
    HubSource,
    ParallelRecipe,
    TableFiles,
    data_recipe,
    find_language,
    override,
)
from langadapt.training import RunOptions, distill

TEXTS = [target for _, target in sentences()[::7]]


@pytest.fixture(scope="module")
def trained(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    out = tmp_path_factory.mktemp("artifact") / "es"
    found = override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=2"])
    artifact = distill(
        found, out, report=lambda progress: None, options=RunOptions(device=torch.device("cpu"))
    )
    return out, artifact


@pytest.fixture
def copy(trained: tuple[Path, Artifact], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def refused(run: Path, **options: str) -> str:
    with pytest.raises(ModelError) as error:
        langadapt.load(run, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_read_is_what_was_written(trained: tuple[Path, Artifact]) -> None:
    run, artifact = trained
    loaded = langadapt.load(run)
    assert loaded.artifact.recipe == artifact.recipe
    assert loaded.artifact.training == json.loads(json.dumps(artifact.training))
    assert loaded.artifact.digest == artifact.digest
    assert loaded.artifact.weights.keys() == artifact.weights.keys()
    for name, weight in artifact.weights.items():
        torch.testing.assert_close(loaded.artifact.weights[name], weight.half().float(), rtol=0, atol=0)
        assert torch.equal(loaded.student.adapter.state_dict()[name.removeprefix("adapter.")], weight.half())
    again = langadapt.load(run)
    assert torch.equal(loaded.encode_text(TEXTS), again.encode_text(TEXTS))


def test_texts_become_unit_rows_in_their_order(trained: tuple[Path, Artifact]) -> None:
    model = langadapt.load(trained[0])
    texts = ["gato", *TEXTS, "perro azul en mar perro azul en mar"]  # of several lengths
    rows = model.encode_text(texts)
    assert rows.dtype == torch.float32
    assert rows.device.type == "cpu"
    assert rows.shape == (len(texts), model.dim)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(texts)))
    alone = torch.cat([model.encode_text([text]) for text in texts])
    torch.testing.assert_close(rows, alone, rtol=0, atol=1e-5)
    small = model.student.encode(texts, batch_tokens=1)
    torch.testing.assert_close(rows, small, rtol=0, atol=1e-5)
    assert model.encode_text([]).shape == (0, model.dim)
    assert model.encode_images([]).shape == (0, model.dim)


@pytest.mark.parametrize("blank", ["", " \t\n", "\u3000"])
def test_a_blank_text_is_named_by_its_row(trained: tuple[Path, Artifact], blank: str) -> None:
    with pytest.raises(DataError, match="text 2 is empty"):
        langadapt.load(trained[0]).encode_text(["gato", "perro", blank, "casa"])


def test_loading_leaves_the_global_randomness_alone(trained: tuple[Path, Artifact]) -> None:
    before = torch.get_rng_state()
    langadapt.load(trained[0])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "where", "problem"),
    [
        ("adapter.safetensors", 60, "damaged or cut off"),
        ("adapter.safetensors", -1, "is not the file that was written"),
        ("recipe.yaml", 7, "is not the file that was written"),
        ("samples.safetensors", -1, "is not the file that was written"),
    ],
)
def test_a_changed_byte_is_noticed(copy: Path, name: str, where: int, problem: str) -> None:
    path = copy / name
    raw = bytearray(path.read_bytes())
    raw[where] ^= 1
    path.write_bytes(raw)
    assert f"{name}: {problem}" in refused(copy).replace(f"{name} is", f"{name}: is")


@pytest.mark.parametrize("key", ["teacher", "text_model", "data", "training", "files"])
def test_a_fact_changed_by_hand_is_noticed(copy: Path, key: str) -> None:
    text = (copy / "artifact.json").read_text(encoding="utf-8")
    start = text.index(f'"{key}"')
    digit = next(i for i in range(start, len(text)) if text[i].isdigit())
    (copy / "artifact.json").write_text(f"{text[:digit]}{9 - int(text[digit])}{text[digit + 1 :]}")
    assert "artifact.json was changed after it was written" in refused(copy)


def test_a_fact_may_not_name_a_file_outside(copy: Path) -> None:
    (copy.parent / "secret").write_text("mine")
    facts = json.loads((copy / "artifact.json").read_text(encoding="utf-8"))
    reseal(copy, files={**facts["files"], "../secret": "0" * 64})
    assert "names a file outside the folder: ../secret" in refused(copy)


def test_a_link_out_of_the_folder_is_refused(copy: Path) -> None:
    (copy / "adapter.safetensors").rename(copy.parent / "elsewhere.safetensors")
    (copy / "adapter.safetensors").symlink_to(copy.parent / "elsewhere.safetensors")
    assert "adapter.safetensors leads out of the folder" in refused(copy)
    linked = copy.parent / "linked"
    (copy / "adapter.safetensors").unlink()
    (copy.parent / "elsewhere.safetensors").rename(copy / "adapter.safetensors")
    linked.symlink_to(copy)
    langadapt.load(linked)  # the folder itself may be one


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter.PT", "state.pkl"])
def test_a_pickle_is_refused(copy: Path, name: str) -> None:
    torch.save({"a": 1}, copy / name)
    assert f"{name} may be pickled" in refused(copy)


def test_a_pickle_under_the_name_of_the_weights_is_refused(copy: Path) -> None:
    torch.save({"a": 1}, copy / "adapter.safetensors")
    reseal(copy, target_dim=24)  # and sums of the new file
    assert "adapter.safetensors: damaged or cut off" in refused(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("teacher", {"repo": "a", "revision": []}), ("text_model", {"repo": 5, "revision": "b"}),
        ("target_dim", "x"), ("data", [{"kind": "parallel"}]), ("samples", [5]), ("environment", {"a": 1}),
        ("training", None), ("training", {"steps": "x"}), ("training", {"held_out_recall": []}),
    ],
)  # fmt: skip
def test_facts_of_other_types(copy: Path, key: str, value: object) -> None:
    """Whoever changes the facts can make the sums again; a page or card would end in a traceback."""
    reseal(copy, **{key: value})
    assert re.match(rf".*artifact\.json: {key}", refused(copy))


def test_samples_are_what_the_student_said(trained: tuple[Path, Artifact]) -> None:
    run, artifact = trained
    assert artifact.samples is not None
    stored = langadapt.load(run).artifact.samples
    assert stored is not None
    assert stored.texts == artifact.samples.texts
    assert "gato rojo en mar" in stored.texts
    corpus = {target for _, target in sentences()} - {"gato rojo en mar"}
    assert not corpus & set(stored.texts), "rows of a corpus are not ours to publish"
    assert torch.equal(stored.embeddings, artifact.samples.embeddings)
    said = langadapt.load(run).encode_text(list(stored.texts))
    torch.testing.assert_close(stored.embeddings, said, rtol=0, atol=1e-6)


def test_the_data_are_stated(trained: tuple[Path, Artifact]) -> None:
    (corpus,) = langadapt.load(trained[0]).artifact.data
    assert (corpus.kind, corpus.name, corpus.licence, corpus.language) == (
        "parallel",
        "es-parallel",
        "CC0-1.0",
        "es",
    )
    assert corpus.rows == len(sentences())
    assert corpus.origin == "parallel.tsv", "no path of this machine"


def test_an_artifact_of_an_older_format_is_one_line(copy: Path) -> None:
    reseal(copy, format_version=2)
    assert "written by an older langadapt" in refused(copy)


@pytest.mark.parametrize(
    "name", ["adapter.safetensors", "recipe.yaml", "artifact.json", "samples.safetensors"]
)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"no {name} in it" in refused(copy)


def test_a_newer_format_says_to_update(copy: Path) -> None:
    reseal(copy, format_version=4)
    (copy / "adapter.safetensors").write_bytes(b"who knows what it will hold")
    assert "pip install -U langadapt" in refused(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 3}'])
def test_damaged_facts_are_one_line(copy: Path, text: str) -> None:
    (copy / "artifact.json").write_text(text, encoding="utf-8")
    assert "damaged artifact" in refused(copy)


def test_weights_of_another_recipe_are_one_line(copy: Path) -> None:
    recipe = (copy / "recipe.yaml").read_text(encoding="utf-8")
    assert "bottleneck_dim: 32" in recipe
    (copy / "recipe.yaml").write_text(
        recipe.replace("bottleneck_dim: 32", "bottleneck_dim: 64"), encoding="utf-8"
    )
    reseal(copy)
    assert "the trained weights do not fit" in refused(copy)


@pytest.mark.parametrize("role", ["teacher", "text_model"])
def test_a_base_model_is_the_one_of_the_training(copy: Path, tmp_path: Path, role: str) -> None:
    facts = json.loads((copy / "artifact.json").read_text(encoding="utf-8"))
    moved = Path(shutil.copytree(facts[role]["repo"], tmp_path / "moved"))
    edited = Path(shutil.copytree(moved, tmp_path / "edited"))
    weights = bytearray((edited / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # of the same size
    (edited / "model.safetensors").write_bytes(weights)

    expected = langadapt.load(copy).encode_text(TEXTS)
    assert torch.equal(langadapt.load(copy, **{role: str(moved)}).encode_text(TEXTS), expected)
    said = refused(copy, **{role: str(edited)})
    assert f"{edited}: the adapter was trained on {role}" in said

    reseal(copy, **{role: {**facts[role], "repo": str(edited)}})
    assert "an adapter fits only the weights that it was trained on" in refused(copy)
    reseal(copy, **{role: {**facts[role], "repo": str(tmp_path / "nowhere")}})
    assert f"give its folder: {role}=..." in refused(copy)
    assert torch.equal(langadapt.load(copy, **{role: str(moved)}).encode_text(TEXTS), expected)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["empty folder", "no folder"])
def test_what_is_no_artifact_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "run")
    refused(tmp_path / "run")


def test_of_local_files_only_the_names_are_stated(language_folder: Path) -> None:
    recipe = data_recipe(ParallelRecipe, str(language_folder / "es-parallel.yaml")).recipe
    for source, origin in (
        (TableFiles(kind="files", paths=("/home/ana/a.tsv", "b.tsv")), "a.tsv, b.tsv"),
        (AlignedFiles(kind="aligned", english="/home/ana/a.en", target="a.es"), "a.en, a.es"),
        (
            HubSource(kind="hub", repo="o/n", config="en-es", revision="0" * 40),
            f"o/n, en-es, train, revision {'0' * 40}",
        ),
    ):
        assert data_source(recipe.model_copy(update={"source": source}), language="es").origin == origin
