"""Two encoders that have never met become a model that transformers and langadapt load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_run import silent
from tiny_tune import every_epoch_is_better, write_pairs
from transformers import AutoModel, BertConfig, BertModel, VisionTextDualEncoderModel

from langadapt.errors import LangadaptError, ModelError, RecipeError, TrainingError
from langadapt.models import load_teacher, resolve_model
from langadapt.recipes import AlignStage, ModelRef
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, align
from langadapt.training.loop import read_log

MORE = {"learning_rate": 3e-3, "pretrained_learning_rate": 1e-3, "epochs": 8, "patience_epochs": 8}


@pytest.fixture(scope="module")
def text_folder(text_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without a pooler in its file, and a tokenizer that knows the captions."""
    folder = tmp_path_factory.mktemp("bert")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(8)
        # With small weights all texts of a random tower look alike.
        config = BertConfig(vocab_size=60, pad_token_id=1, initializer_range=0.2, **tower)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    for path in text_model_folder.glob("*token*"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), images=60)


def aligned(vision: Path, language: Path, pairs: Path, out: Path, /, **values: Any) -> dict[str, Any]:
    settings = {"epochs": 3, "batch_size": 12, "held_out_fraction": 0.25, "dim": 20, **values}
    stage = parse(AlignStage, {"pairs": [str(pairs)], **settings}, where="test")
    return align(
        ModelRef(repo=str(vision)),
        ModelRef(repo=str(language)),
        out,
        stage=stage,
        report=silent,
        options=RunOptions(device=torch.device("cpu"), images=pairs.parent / "pictures"),
    )


@pytest.fixture
def _learning(monkeypatch: pytest.MonkeyPatch) -> None:
    every_epoch_is_better(monkeypatch)


@pytest.mark.usefixtures("_learning")
@pytest.mark.parametrize(
    ("methods", "image"),
    [(["full"], ["locked"]), ([{"lora": {"rank": 2}}, "bitfit"], ["layer_norm"])],
    ids=["locked", "lora"],
)
def test_the_result_is_transformers_own(
    vision_folder: Path, text_folder: Path, pairs: Path, tmp_path: Path, methods: list[Any], image: list[Any]
) -> None:
    facts = aligned(vision_folder, text_folder, pairs, tmp_path / "dual", text=methods, image=image, **MORE)
    losses = [log.loss for log in read_log(tmp_path / "dual")[0]]
    assert losses[-1] < losses[0] - 1, "it learns"
    assert facts["best_step"] == len(losses)
    theirs = AutoModel.from_pretrained(tmp_path / "dual").eval()
    assert isinstance(theirs, VisionTextDualEncoderModel)
    teacher = load_teacher(resolve_model(ModelRef(repo=str(tmp_path / "dual"))))
    assert teacher.dim == 20
    pictures = [
        Image.open(path).convert("RGB") for path in sorted((pairs.parent / "pictures").glob("1*.png"))
    ]
    with torch.no_grad():
        rows = theirs.get_image_features(**teacher.pixels(pictures)).pooler_output
    torch.testing.assert_close(torch.nn.functional.normalize(rows, dim=-1), teacher.embed_images(pictures))
    stored = load_file(tmp_path / "dual" / "model.safetensors")
    assert not [name for name in stored if "lora" in name or "base_layer" in name]
    assert "text_model.pooler.dense.weight" in stored, "new, so it trained"
    before = load_file(vision_folder / "model.safetensors")
    changed = {
        name for name, value in before.items() if not torch.equal(stored[f"vision_model.{name}"], value)
    }
    if image == ["locked"]:
        assert changed == set()
    else:
        assert changed
        assert all("normalization" in name for name in changed)
    assert sorted(path.name for path in (tmp_path / "dual").iterdir() if path.is_dir()) == []
    with pytest.raises(TrainingError, match="holds a finished run"):
        aligned(vision_folder, text_folder, pairs, tmp_path / "dual")
    (tmp_path / "dual" / "checkpoint").mkdir()  # killed before it removed its checkpoint
    facts = aligned(vision_folder, text_folder, pairs, tmp_path / "dual", text=methods, image=image, **MORE)
    assert facts == json.loads((tmp_path / "dual" / "align.json").read_text(encoding="utf-8"))
    assert not (tmp_path / "dual" / "checkpoint").exists()


@pytest.mark.usefixtures("_learning")
def test_the_same_run_twice_is_the_same_model(
    vision_folder: Path, text_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    facts = aligned(vision_folder, text_folder, pairs, tmp_path / "dual", **MORE)
    assert facts["rows"] + facts["held_out_rows"] == 120
    again = aligned(vision_folder, text_folder, pairs, tmp_path / "again", **MORE)
    assert again["held_out_recall"] == facts["held_out_recall"]
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("dual", "again")]
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items()), "the same run twice"


@pytest.mark.parametrize(
    ("swap", "values", "kind", "words"),
    [
        (False, {"text": ["adapters"]}, RecipeError, "`adapters` adds modules, and transformers' own format"),
        (False, {"image": [{"last": 1}]}, ModelError, "image tower. has 0 Transformer layers"),
        (True, {}, ModelError, "is not a vision encoder|cannot load|pixel"),
    ],
    ids=["adapters", "last", "swapped"],
)
def test_what_cannot_work_is_one_line(
    vision_folder: Path,
    text_folder: Path,
    pairs: Path,
    tmp_path: Path,
    swap: bool,
    values: dict[str, Any],
    kind: type[LangadaptError],
    words: str,
) -> None:
    models = (text_folder, vision_folder) if swap else (vision_folder, text_folder)
    (tmp_path / "photo.png").write_bytes(b"mine")
    for out in (tmp_path, tmp_path / "new" / "dual"):
        with pytest.raises(kind, match=words) as error:
            aligned(*models, pairs, out, **values)
        assert "\n" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == ["photo.png"], "a refused run leaves no trace"
