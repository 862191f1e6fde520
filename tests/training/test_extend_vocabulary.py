"""A language in letters that the tokenizer does not know: new pieces train, the rest as it was chosen."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sealing import reseal
from tiny_language import sentences
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

import langadapt
from langadapt.errors import ModelError, Progress, Report, TrainingError
from langadapt.models import Artifact, Student, read_artifact
from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill

UNSEEN = [
    (english, "".join(chr(0x10D0 + ord(c) - 97) if c != " " else c for c in target))
    for english, target in sentences()
]
EXTEND = "text_model.extend_vocabulary={pieces: 60, learning_rate: 1e-2}"
TABLE = "embeddings.word_embeddings.table.weight"
ROWS = "text_model.encoder.embeddings.word_embeddings.rows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, language_folder: Path, teacher_folder: Path) -> Path:
    """The language of the other tests in Georgian letters, and a text model whose tokenizer knows English."""
    made = tmp_path_factory.mktemp("qes")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([english for english, _ in UNSEEN], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    fast.save_pretrained(made / "text-model")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = XLMRobertaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=66,
        )
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(made / "text-model")
    lines = "".join(f"{english}\t{target}\n" for english, target in UNSEEN)
    (made / "parallel.tsv").write_text("english\ttarget\n" + lines, encoding="utf-8")
    data = (language_folder / "es-parallel.yaml").read_text(encoding="utf-8").replace("es", "qes", 1)
    (made / "qes-parallel.yaml").write_text(data.replace("language: es", "language: qes"), encoding="utf-8")
    recipe = (language_folder / "es.yaml").read_text(encoding="utf-8")
    recipe = recipe.replace("code: es", "code: qes").replace("spa", "qes").replace("./es-", "./qes-")
    places = [line for line in recipe.splitlines() if not line.startswith(("text_model", "evaluate"))]
    (made / "qes.yaml").write_text("\n".join([*places, "text_model: {repo: ./text-model}"]), encoding="utf-8")
    return made


def silent(progress: Progress) -> None:
    """Nobody watches."""


def run(folder: Path, out: Path, *settings: str, report: Report = silent) -> Artifact:
    found = override(find_language(str(folder / "qes.yaml")), ["distill.epochs=2", EXTEND, *settings])
    return distill(found, out, report=report, options=RunOptions(device=torch.device("cpu")))


def stop_at(step: int) -> Report:
    def report(progress: Progress) -> None:
        if progress.stage == "distil" and progress.done == step:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    run(folder, out)
    return out


def test_an_artifact_holds_the_new_pieces_and_their_rows(folder: Path, finished: Path) -> None:
    kept = load_file(finished / "adapter.safetensors")
    assert [name for name in kept if not name.startswith("adapter.")] == [ROWS]
    artifact = read_artifact(finished)
    assert artifact.vocabulary is not None
    pieces = artifact.vocabulary.pieces
    assert len(pieces) == artifact.training["new_pieces"] == len(kept[ROWS]) > 20
    loaded = langadapt.load(finished)
    fresh = XLMRobertaModel.from_pretrained(folder / "text-model", add_pooling_layer=False).state_dict()
    now = loaded.student.text_model.encoder.state_dict()
    now["embeddings.word_embeddings.weight"] = now.pop(TABLE)
    assert [name for name in fresh if not torch.equal(now[name], fresh[name])] == []
    rows = now.keys() - fresh.keys()
    assert {name.rsplit(".", 1)[-1] for name in rows} == {"rows"}
    unknown = loaded.student.text_model.tokenizer.unk_token_id
    assert unknown not in loaded.student.text_model.tokenize([t for _, t in UNSEEN]).ids


@pytest.mark.parametrize("trains", ["frozen", "embeddings", "{lora: {rank: 2}}", "full"])
def test_only_what_was_chosen_and_the_new_rows_train(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: str
) -> None:
    module: Any = sys.modules[distill.__module__]
    kept: list[Student] = []
    before: list[dict[str, torch.Tensor]] = []

    def student(**options: Any) -> Student:
        kept.append(Student(**options))
        before.append({name: value.clone() for name, value in kept[0].text_model.state_dict().items()})
        return kept[0]

    monkeypatch.setattr(module, "Student", student)
    run(folder, tmp_path, f"text_model.trains={trains}", "distill.epochs=1", "text_model.learning_rate=1e-2")
    (trained,) = kept
    after = trained.text_model.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[0][name])}
    rows = {name for name in after if name.endswith("word_embeddings.rows")}
    assert rows < moved if trains != "frozen" else rows == moved
    allowed = {
        "frozen": (),
        "embeddings": ("word_embeddings.table.weight",),
        "{lora: {rank: 2}}": ("self.query.weight", "self.value.weight"),
        "full": ("",),
    }[trains]
    assert all(any(part in name for part in allowed) for name in moved - rows)
    texts = [target for _, target in UNSEEN[::5]]
    loaded = langadapt.load(tmp_path)
    torch.testing.assert_close(loaded.encode_text(texts), trained.encode(texts), rtol=0, atol=5e-3)
    assert not any(weight.requires_grad for weight in loaded.student.text_model.parameters())


def test_the_language_can_be_told_apart_only_with_them(folder: Path, tmp_path: Path) -> None:
    """Without new pieces sentences of one shape are the same row of unknown tokens."""
    run(folder, tmp_path / "with", "distill.epochs=1")
    run(folder, tmp_path / "without", "distill.epochs=1", "text_model.extend_vocabulary=null")
    texts = [target for _, target in UNSEEN]
    distinct = {}
    for name in ("with", "without"):
        rows = langadapt.load(tmp_path / name).encode_text(texts)
        distinct[name] = len((rows * 1e4).round().unique(dim=0))
    assert distinct["with"] == 144
    assert distinct["without"] < 100


def test_resumed_equals_uninterrupted(folder: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, report=stop_at(13))
    learnt = (tmp_path / "checkpoint/vocabulary.json").read_bytes()
    said: list[str] = []
    run(folder, tmp_path, report=lambda progress: said.append(progress.stage))
    assert any(line.startswith("resumed at step ") for line in said)
    for name in ("adapter.safetensors", "vocabulary.json"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    assert learnt == (finished / "vocabulary.json").read_bytes()


def test_another_number_of_pieces_is_another_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, report=stop_at(13))
    with pytest.raises(TrainingError, match="unfinished run of another recipe"):
        run(folder, tmp_path, "text_model.extend_vocabulary={pieces: 61}")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    for name in (
        "adapter.safetensors",
        "vocabulary.json",
        "recipe.yaml",
        "samples.safetensors",
        "artifact.json",
    ):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    return tmp_path


def test_changed_or_missing_pieces_are_one_line(copy: Path) -> None:
    path = copy / "vocabulary.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said["pieces"][0], said["pieces"][1] = said["pieces"][1], said["pieces"][0]
    path.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(ModelError, match=r"vocabulary\.json is not the file"):
        langadapt.load(copy)
    path.unlink()
    with pytest.raises(ModelError, match=r"no vocabulary\.json in it"):
        langadapt.load(copy)


@pytest.mark.parametrize("fault", ["missing", "fewer"])
def test_rows_that_do_not_fit_are_one_line(copy: Path, fault: str) -> None:
    weights = load_file(copy / "adapter.safetensors")
    rows = weights.pop(ROWS)
    if fault == "fewer":
        weights[ROWS] = rows[1:].clone()
    save_file(weights, copy / "adapter.safetensors", metadata={"format": "pt"})
    reseal(copy)
    with pytest.raises(ModelError, match="the trained weights do not fit"):
        langadapt.load(copy)


def test_the_pieces_are_part_of_the_digest(finished: Path, tmp_path: Path) -> None:
    artifact = read_artifact(finished)
    assert artifact.vocabulary is not None
    first, second, *rest = artifact.vocabulary.pieces
    swapped = replace(artifact.vocabulary, pieces=(second, first, *rest))
    assert replace(artifact, vocabulary=swapped).digest != artifact.digest
