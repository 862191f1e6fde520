"""What is published is what was trained, and what may not be published is refused with the reason."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scored import score
from sealing import reseal, reseal_json

import langadapt
from langadapt.errors import LangadaptError, ModelError, PublishError
from langadapt.hub.stage import Publication, StageOptions, publish


def staged(run: Path, out: Path, permission: str | None = None) -> Publication:
    options = StageOptions(repo="me/clip-es", permission=permission, local_base_models=True)
    return publish(run, options=options, out=out)


def refused(run: Path, *words: str) -> None:
    out = run.parent / "out"
    with pytest.raises(LangadaptError) as error:
        staged(run, out)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert sorted(path.name for path in run.parent.iterdir()) == ["es"], "nothing stays"


def state_data(run: Path, **changes: object) -> None:
    (corpus,) = json.loads((run / "artifact.json").read_text(encoding="utf-8"))["data"]
    reseal(run, data=[{**corpus, **changes}])


def test_the_folder_holds_the_adapter_and_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    done = staged(run, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()} == done.sizes
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path.parent.parent).encode() not in path.read_bytes(), path.name
    assert (tmp_path / "out" / "adapter.safetensors").read_bytes() == before["adapter.safetensors"]
    facts = json.loads(before["artifact.json"])
    places = {role: facts[role]["repo"] for role in ("teacher", "text_model")}
    model = langadapt.load(tmp_path / "out", **places)
    stored = load_file(run / "samples.safetensors")["embeddings"]
    said = model.encode_text(list(facts["samples"]))
    torch.testing.assert_close(said, stored, rtol=0, atol=1e-5)
    assert model.artifact.recipe.distill.data == ("es-parallel",)
    assert done.largest_difference <= 1e-5


def test_an_existing_folder_is_not_touched(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    staged(run, tmp_path / "out")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(LangadaptError, match=r"out: is not empty; choose another --out$"):
        staged(run, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == kept


def test_without_scores(run: Path) -> None:
    (run / "scores.json").write_text('{"cards": [], "warnings": []}')
    refused(run, "scores.json: was changed after it was written", "langadapt eval")
    reseal_json(run / "scores.json", "", "")
    refused(run, "no score of the student", "langadapt eval")
    (run / "scores.json").write_text("{")
    refused(run, "scores.json: damaged")
    (run / "scores.json").unlink()
    refused(run, "no scores.json in it", "langadapt eval")


def test_edited_scores_are_in_no_card(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    content["cards"][0]["student"]["t2i"]["r1"] = 99.9
    (run / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    refused(run, "scores.json: was changed after it was written", "langadapt eval")
    content["cards"][0]["name"] = "other"  # so that the next evaluation would keep it beside its own card
    (run / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    score(run, monkeypatch)
    assert "earlier scores are left out" in capsys.readouterr().err
    cards = json.loads((run / "scores.json").read_text(encoding="utf-8"))["cards"]
    assert [card["name"] for card in cards] == ["es-test"]


def test_weights_that_are_no_numbers(run: Path) -> None:
    weights = load_file(run / "adapter.safetensors")
    name = max(weights)
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, run / "adapter.safetensors")
    reseal(run)
    with pytest.raises(ModelError, match=f"'{name}' holds numbers that are not finite"):
        langadapt.load(run)


def test_scores_of_other_weights(run: Path) -> None:
    weights = load_file(run / "adapter.safetensors")
    save_file({name: value * 0.5 for name, value in weights.items()}, run / "adapter.safetensors")
    reseal(run)
    refused(run, "es-test was scored with other weights", "langadapt eval")


@pytest.mark.parametrize("change", [0.0, 2e-5, float("nan")])
def test_samples_that_do_not_come_out_again(run: Path, tmp_path: Path, change: float) -> None:
    rows = load_file(run / "samples.safetensors")["embeddings"]
    rows[1, 3] += change
    save_file({"embeddings": rows}, run / "samples.safetensors")
    reseal(run)
    if change == 0:
        staged(run, tmp_path / "out")
    else:
        refused(run, "the samples differ by up to")


def test_an_artifact_without_samples(run: Path) -> None:
    facts = json.loads((run / "artifact.json").read_text(encoding="utf-8"))
    del facts["files"]["samples.safetensors"]
    (run / "artifact.json").write_text(json.dumps(facts), encoding="utf-8")
    reseal(run)
    refused(run, "no sample embeddings", "train it again")


def test_reports_of_the_commands_stay_behind(run: Path, tmp_path: Path) -> None:
    reports = {
        "classification.html",
        "classification.json",
        "confusion.svg",
        "domain.json",
        "hard-pairs.jsonl",
    }
    for name in reports:
        (run / name).write_text("of eval --classify and of domain")
    staged(run, tmp_path / "out")
    assert not reports & {path.name for path in (tmp_path / "out").iterdir()}


def test_what_a_killed_command_left_is_not_published(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "state.safetensors").write_bytes(b"half")
    for name in (".report.html.ab12_x.tmp", ".adapter.safetensors.ab12_x.tmp"):
        (run / name).write_bytes(b"half")
    staged(run, tmp_path / "out")
    assert not [
        path.name for path in (tmp_path / "out").iterdir() if path.name.endswith(("tmp", "checkpoint"))
    ]


@pytest.mark.parametrize("name", ["notes.txt", ".env", "photos", ".notes.txt.ab12_x.tmp"])
def test_a_foreign_file(run: Path, name: str) -> None:
    (run / name).mkdir() if name == "photos" else (run / name).write_text("mine")
    refused(run, f"does not belong to an adapter: {name}")


def test_a_pickle_and_a_link_out_of_the_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.save({}, run / "model.pt")
    refused(run, "model.pt may be pickled")
    (run / "model.pt").unlink()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "scores.json"
    (run / "scores.json").rename(elsewhere)
    (run / "scores.json").symlink_to(elsewhere)
    refused(run, "scores.json leads out of the folder")


def test_another_revision_of_a_base_model(run: Path) -> None:
    text = (run / "artifact.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    revision = facts["text_model"]["revision"]
    (run / "artifact.json").write_text(text.replace(revision, f"sha256:{'0' * 16}"), encoding="utf-8")
    refused(run, "artifact.json was changed")
    reseal(run)
    with pytest.raises(ModelError, match="an adapter fits only the weights that it was trained on"):
        langadapt.load(run)


def test_base_models_that_others_lack(run: Path, tmp_path: Path, text_model_folder: Path) -> None:
    with pytest.raises(PublishError, match="nobody else can fetch") as error:
        publish(run, options=StageOptions(), out=tmp_path / "out")
    assert str(text_model_folder) in str(error.value)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"licence": "CC-BY-ND-4.0"}, ("es-parallel", "CC-BY-ND-4.0", "--permission")),
        (
            {"licence": "our own terms", "access": "request", "homepage": "https://ask.example"},
            ("es-parallel was given on request (https://ask.example)", "--permission"),
        ),
    ],
    ids=["no derived works", "on request"],
)
def test_a_licence_that_forbids_it(
    run: Path, tmp_path: Path, stated: dict[str, str], words: tuple[str, ...]
) -> None:
    state_data(run, **stated)
    refused(run, *words)
    staged(run, tmp_path / "out", permission="Ana Gómez, letter of 3 May")
    assert "Ana Gómez, letter of 3 May" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_terms_that_the_card_marks(run: Path, tmp_path: Path) -> None:
    state_data(run, licence="CC-BY-NC-4.0")
    licences = staged(run, tmp_path / "nc").licences
    # The tiny base models' recipe states no licence, so it is not cc-by-nc-4.0 alone.
    assert (licences.licence, licences.name) == ("other", "non-commercial-and-unknown-terms")
    card = (tmp_path / "nc" / "README.md").read_text(encoding="utf-8")
    assert "**Not for commercial use**" in card
    assert "These forbid commercial use: es-parallel." in card
    assert "license_name: non-commercial-and-unknown-terms" in card
