"""Two encoders that have never met become a model that every command takes."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny_run import silent
from tiny_tune import every_epoch_is_better, stage, tuned, write_pairs
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

import langadapt
from langadapt.errors import LangadaptError, TrainingError
from langadapt.export.sentence_transformers import default_probes, export_sentence_transformers
from langadapt.models import Artifact, LanguageModel, load_teacher, resolve_model
from langadapt.models.language_model import assemble
from langadapt.models.towers import pooled_texts
from langadapt.recipes import AlignStage, ModelRef, TextModelRef
from langadapt.recipes.authoring import plain_recipe
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, align
from langadapt.training.log import read_log

MORE = {"learning_rate": 3e-3, "pretrained_learning_rate": 1e-3, "epochs": 8, "patience_epochs": 8}
LILT = ["adapters", "layer_norm", "projection"]
TEXTS = ["a red cat", "a blue dog at home"]


@pytest.fixture(scope="module")
def text_folder(text_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a pooler, and a tokenizer that knows the captions."""
    folder = tmp_path_factory.mktemp("bert")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(8)
        # With small weights all texts of a random tower look alike.
        config = BertConfig(vocab_size=60, pad_token_id=1, initializer_range=0.2, **tower)
        BertModel(config).save_pretrained(folder)
    for path in text_model_folder.glob("*token*"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), images=60)


@pytest.fixture
def _learning(monkeypatch: pytest.MonkeyPatch) -> None:
    every_epoch_is_better(monkeypatch)


def aligned(vision: Path, language: Path, pairs: Path, out: Path, /, **values: Any) -> Artifact:
    settings = {"epochs": 3, "batch_size": 12, "held_out_fraction": 0.25, "dim": 20, **values}
    chosen = parse(AlignStage, {"pairs": [str(pairs)], **settings}, where="test")
    recipe = plain_recipe(ModelRef(repo=str(vision)), TextModelRef(repo=str(language)), align=chosen)
    options = RunOptions(device=torch.device("cpu"), images=pairs.parent / "pictures")
    return align(recipe, out, report=silent, options=options)


def pictures(pairs: Path) -> list[Image.Image]:
    paths = sorted((pairs.parent / "pictures").glob("1*.png"))
    return [Image.open(path).convert("RGB") for path in paths]


def rows(model: LanguageModel, pairs: Path) -> tuple[Tensor, Tensor]:
    return model.encode_text(TEXTS, exact=True), model.encode_images(pictures(pairs))


@pytest.mark.usefixtures("_learning")
@pytest.mark.parametrize(
    ("image_kind", "methods", "image", "pooling"),
    [
        ("vision_folder", LILT, ["locked"], "mean"),
        ("vision_folder", [{"lora": {"rank": 2}}, "bitfit"], ["layer_norm"], "last"),
        ("teacher_folder", ["layer"], LILT, "pooler"),
        ("teacher_folder", ["full"], ["layer", "bitfit"], "cls"),
    ],
)
def test_what_is_aligned_is_what_loads(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    text_folder: Path,
    pairs: Path,
    tmp_path: Path,
    image_kind: str,
    methods: list[Any],
    image: list[Any],
    pooling: str,
) -> None:
    vision, made = request.getfixturevalue(image_kind), []
    monkeypatch.setattr(
        sys.modules["langadapt.training.tune"],
        "assemble",
        lambda *a, **k: made.append(assemble(*a, **k)) or made[0],
    )
    artifact = aligned(
        vision, text_folder, pairs, tmp_path / "run", text=methods, image=image, pooling=pooling, **MORE
    )
    losses = [log.loss for log in read_log(tmp_path / "run")[0]]
    assert losses[-1] < losses[0] - 1, "it learns"
    assert artifact.training["best_step"] == len(losses)
    loaded = langadapt.load(tmp_path / "run")
    assert loaded.dim == 20
    for found, trained in zip(rows(loaded, pairs), rows(made[0], pairs), strict=True):
        torch.testing.assert_close(found, trained, atol=1e-6, rtol=0)
    stored = load_file(tmp_path / "run" / "adapter.safetensors")
    assert any("word_embeddings" in name for name in stored) == (methods == ["full"]), "changes only"
    if image == ["locked"]:
        assert {name for name in stored if ".image." in name} == {"align.image.visual_projection.weight"}
    teacher = load_teacher(resolve_model(ModelRef(repo=str(tmp_path / "run"))))
    torch.testing.assert_close(teacher.text.embed(TEXTS), loaded.encode_text(TEXTS))
    with pytest.raises(TrainingError, match="holds a finished run"):
        aligned(vision, text_folder, pairs, tmp_path / "run")


@pytest.mark.usefixtures("_learning")
def test_tuned_after_it_and_after_a_plain_clip(
    vision_folder: Path, text_folder: Path, teacher_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    aligned(vision_folder, text_folder, pairs, tmp_path / "run", text=["locked"], **MORE)
    for start in (tmp_path / "run", teacher_folder):
        chosen = stage(pairs, text=LILT, image=["layer_norm"], learning_rate=1e-2)
        artifact = tuned(start, tmp_path / f"{start.name}-tuned", chosen)
        loaded, before = langadapt.load(tmp_path / f"{start.name}-tuned"), langadapt.load(start)
        assert not artifact.training["fell_back"]
        assert artifact.samples is not None
        torch.testing.assert_close(
            loaded.encode_text(list(artifact.samples.texts), exact=True), artifact.samples.embeddings
        )
        for now, then in zip(rows(loaded, pairs), rows(before, pairs), strict=True):
            assert (now - then).abs().max() > 1e-3
    plain = langadapt.load(teacher_folder)
    with torch.no_grad():
        ids = AutoTokenizer.from_pretrained(teacher_folder)(TEXTS, return_tensors="pt", padding=True)
        theirs = AutoModel.from_pretrained(teacher_folder).get_text_features(**ids).pooler_output
    torch.testing.assert_close(plain.encode_text(TEXTS), torch.nn.functional.normalize(theirs, dim=-1))
    assert list(teacher_folder.glob("*scores*")) == []
    tuned(teacher_folder, tmp_path / "text", stage(pairs, text=LILT, image=["locked"], learning_rate=1e-2))
    changed = langadapt.load(tmp_path / "text")
    assert (changed.encode_text(TEXTS) - plain.encode_text(TEXTS)).abs().max() > 1e-3
    beside = langadapt.models.load(teacher_folder, beside=[changed])
    assert torch.equal(beside.encode_text(TEXTS), plain.encode_text(TEXTS))
    export_sentence_transformers(changed, tmp_path / "out", probes=default_probes(changed))
    exported = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    found = (
        exported.encode(TEXTS, convert_to_tensor=True),
        exported.encode(pictures(pairs), convert_to_tensor=True),
    )
    for theirs, ours in zip(found, rows(changed, pairs), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_never_counts(pooling: str) -> None:
    class Output:
        last_hidden_state = torch.arange(24.0).view(2, 4, 3)

    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    states = Output.last_hidden_state
    expected = {"mean": states[1, :2].mean(dim=0), "cls": states[1, 0], "last": states[1, 1]}
    assert torch.equal(pooled_texts(Output, mask, pooling)[1], expected[pooling])


def pooling_folder(text_folder: Path, folder: Path, **values: Any) -> Path:
    shutil.copytree(text_folder, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.usefixtures("_learning")
def test_a_folder_says_how_it_pools(
    vision_folder: Path, text_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    facts = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    folder = pooling_folder(text_folder, tmp_path / "st", **facts)
    artifact = aligned(vision_folder, folder, pairs, tmp_path / "run", text=["locked"], epochs=1)
    assert artifact.recipe.align is not None
    assert artifact.recipe.align.pooling == "cls"


@pytest.mark.parametrize(
    ("swap", "values", "pooling", "words"),
    [
        (False, {"image": [{"last": 99}]}, None, "image tower. has 16 layers"),
        (False, {"image": ["adapters"]}, None, "image tower. has no Transformer layers, so `adapters`"),
        (True, {}, None, "is not a text encoder"),
        (False, {"pooling": "best"}, None, "test: pooling"),
        (
            False,
            {},
            {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
            "384 numbers.* give 32",
        ),
        (False, {}, {"pooling_mode_max_tokens": True}, "pools by max_tokens"),
        (False, {"pairs": ["{}"]}, None, "--column image=NAME|no column 'image'"),
    ],
)
def test_what_cannot_work_is_one_line(
    vision_folder: Path,
    text_folder: Path,
    pairs: Path,
    tmp_path: Path,
    swap: bool,
    values: dict[str, Any],
    pooling: dict[str, Any] | None,
    words: str,
) -> None:
    language = text_folder if pooling is None else pooling_folder(text_folder, tmp_path / "st", **pooling)
    if "pairs" in values:
        (tmp_path / "none.tsv").write_text("caption\tenglish\na red cat\ta red cat\n", encoding="utf-8")
        values = {"pairs": [str(tmp_path / "none.tsv")]}
    models = (language, vision_folder) if swap else (vision_folder, language)
    with pytest.raises(LangadaptError, match=words) as error:
        aligned(*models, pairs, tmp_path / "new" / "run", **values)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists(), "a refused run leaves no trace"
