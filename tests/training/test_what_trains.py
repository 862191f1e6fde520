"""Only what was chosen trains; what was not is bit for bit what it was."""

import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import sentences
from tiny_run import run, weights
from torch import Tensor, nn
from transformers import CLIPModel, XLMRobertaModel

import langadapt
from langadapt.errors import ModelError
from langadapt.models import Student, Teacher
from langadapt.training import distill

HEAD = "text_model.encoder."
TEXTS = [target for _, target in sentences()[::5]]
RATE = "text_model.learning_rate=1e-2"
LAYER = {  # one layer of width 32
    **{f"attention.self.{name}.weight": (32, 32) for name in ("query", "key", "value")},
    **{f"attention.self.{name}.bias": (32,) for name in ("query", "key", "value")},
    "attention.output.dense.weight": (32, 32),
    "attention.output.dense.bias": (32,),
    "attention.output.LayerNorm.weight": (32,),
    "attention.output.LayerNorm.bias": (32,),
    "intermediate.dense.weight": (64, 32),
    "intermediate.dense.bias": (64,),
    "output.dense.weight": (32, 64),
    "output.dense.bias": (32,),
    "output.LayerNorm.weight": (32,),
    "output.LayerNorm.bias": (32,),
}
LORA = {
    f"encoder.layer.{i}.attention.self.{name}.lora_{part}": shape
    for i in range(3)
    for name in ("query", "value")
    for part, shape in (("A", (2, 32)), ("B", (32, 2)))
}
EMBEDDINGS = {
    "embeddings.word_embeddings.weight": (39, 32),
    "embeddings.position_embeddings.weight": (18, 32),
    "embeddings.token_type_embeddings.weight": (2, 32),
    "embeddings.LayerNorm.weight": (32,),
    "embeddings.LayerNorm.bias": (32,),
}
CHOICES: dict[str, dict[str, tuple[int, ...]]] = {
    "{last: 1}": {f"encoder.layer.2.{name}": shape for name, shape in LAYER.items()},
    "{lora: {rank: 2}}": LORA,
    "full": {
        **EMBEDDINGS,
        **{f"encoder.layer.{i}.{name}": shape for i in range(3) for name, shape in LAYER.items()},
    },
}


class Seen:
    """The teacher and the student that a run works with."""

    teacher: Teacher
    student: Student


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    module: Any = sys.modules[distill.__module__]  # the package's name for it is the function
    kept, load_teacher = Seen(), module.load_teacher

    def teacher(*args: Any, **options: Any) -> Teacher:
        kept.teacher = load_teacher(*args, **options)
        return kept.teacher

    def student(**options: Any) -> Student:
        kept.student = Student(**options)
        return kept.student

    monkeypatch.setattr(module, "load_teacher", teacher)
    monkeypatch.setattr(module, "Student", student)
    return kept


def unchanged(module: nn.Module, fresh: dict[str, Tensor], *, but: Collection[str] = ()) -> None:
    """Also under the names that LoRA gives to the layers that it wraps."""
    now = {name.replace("base_layer.", ""): value for name, value in module.state_dict().items()}
    assert fresh.keys() <= now.keys()
    assert [name for name in fresh if name not in but and not torch.equal(now[name], fresh[name])] == []


def fresh_encoder(folder: Path) -> dict[str, Tensor]:
    return XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False).state_dict()


@pytest.mark.parametrize("budget", [10**9, 0], ids=["cached", "computed"])
def test_teacher_and_text_model_stay_frozen(
    language_folder: Path,
    teacher_folder: Path,
    text_model_folder: Path,
    tmp_path: Path,
    seen: Seen,
    budget: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    graphs: list[object] = []

    def watch(module: nn.Module, args: object, output: Any) -> None:
        if isinstance(module, XLMRobertaModel | CLIPModel):
            graphs.append(output[0].grad_fn)

    hook = nn.modules.module.register_module_forward_hook(watch)
    try:
        artifact = run(language_folder, tmp_path / "run", "distill.epochs=1", budget=budget)
    finally:
        hook.remove()
    assert set(graphs) == {None}
    assert (len(graphs) > 10) == (budget == 0)
    unchanged(seen.teacher.module, CLIPModel.from_pretrained(teacher_folder).state_dict())
    unchanged(seen.student.text_model.encoder, fresh_encoder(text_model_folder))
    frozen = [*seen.teacher.module.parameters(), *seen.student.text_model.parameters()]
    assert not any(weight.requires_grad or weight.grad is not None for weight in frozen)
    assert not seen.student.text_model.encoder.training
    assert all(name.startswith("adapter.") for name in weights(tmp_path / "run"))
    assert artifact.training["trained_parameters"] == sum(
        w.numel() for w in seen.student.adapter.parameters()
    )


@pytest.mark.parametrize("trains", list(CHOICES))
def test_an_artifact_holds_what_trained_and_nothing_else(
    language_folder: Path, text_model_folder: Path, tmp_path: Path, seen: Seen, trains: str
) -> None:
    run(language_folder, tmp_path, "distill.epochs=1", f"text_model.trains={trains}", RATE)
    kept = weights(tmp_path)
    stored = {
        name.removeprefix(HEAD): tuple(value.shape) for name, value in kept.items() if name.startswith(HEAD)
    }
    assert stored == CHOICES[trains]
    fresh = fresh_encoder(text_model_folder)
    loaded = langadapt.load(tmp_path)
    for encoder in (seen.student.text_model.encoder, loaded.student.text_model.encoder):
        unchanged(encoder, fresh, but={re.sub(r"lora_[AB]", "weight", name) for name in stored})
    back = loaded.student.text_model.encoder.state_dict()
    if "lora" in trains:
        layer = "encoder.layer.1.attention.self.value"
        a, b = (kept[f"{HEAD}{layer}.lora_{part}"].float() for part in "AB")
        assert b.any(), "it starts at zero"
        torch.testing.assert_close(back[f"{layer}.weight"], fresh[f"{layer}.weight"] + b @ a)
    else:
        # The bias of keys moves no attention, and only positions and tokens that occur get a gradient.
        assert all(kept[HEAD + name].any() for name in stored if not name.endswith("key.bias"))
        for name in stored:
            assert torch.equal(back[name], fresh[name] + kept[HEAD + name].float())
    same_answers(loaded, seen.student)


def test_embeddings_keep_the_rows_that_changed(
    language_folder: Path, text_model_folder: Path, tmp_path: Path, seen: Seen
) -> None:
    settings = ("distill.epochs=1", "distill.identity_fraction=0", "text_model.trains=embeddings", RATE)
    run(language_folder, tmp_path, *settings)
    table = "embeddings.word_embeddings.weight"
    stored = {name: value for name, value in weights(tmp_path).items() if name.startswith("text_model.")}
    assert stored.keys() == {f"{HEAD}{table}.changed_rows", f"{HEAD}{table}.changed_values"}
    rows = stored[f"{HEAD}{table}.changed_rows"].tolist()
    words = {word for _, target in sentences() for word in target.split()}
    occurring = set(seen.student.text_model.tokenizer.convert_tokens_to_ids(sorted(words))) | {0, 2}
    assert rows == sorted(occurring), "every token of the language, no padding, no English word"
    assert stored[f"{HEAD}{table}.changed_values"].shape == (len(rows), 32)

    fresh = fresh_encoder(text_model_folder)
    loaded = langadapt.load(tmp_path)
    for encoder in (seen.student.text_model.encoder, loaded.student.text_model.encoder):
        unchanged(encoder, fresh, but={table})
        changed = (encoder.state_dict()[table] != fresh[table]).any(dim=1).nonzero()[:, 0]
        assert changed.tolist() == rows
    same_answers(loaded, seen.student)


def same_answers(loaded: langadapt.models.LanguageModel, student: Student) -> None:
    """The finished student has its weights as they are stored."""
    torch.testing.assert_close(loaded.encode_text(TEXTS), student.encode(TEXTS), rtol=0, atol=1e-6)
    samples = loaded.artifact.samples
    assert samples is not None
    said = loaded.encode_text(list(samples.texts))
    torch.testing.assert_close(said, samples.embeddings, rtol=0, atol=1e-6)
    assert not any(weight.requires_grad for weight in loaded.student.text_model.parameters())
    assert not loaded.student.training


def test_more_layers_than_there_are_is_one_line(language_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 3 layers, so `last: 4`"):
        run(language_folder, tmp_path, "text_model.trains={last: 4}")


@pytest.mark.parametrize("trains", ["embeddings", "{last: 1}", "{lora: {rank: 2}}", "full"])
def test_trained_weights_that_are_missing_are_one_line(
    language_folder: Path, tmp_path: Path, trains: str
) -> None:
    """Never a layer with random or untrained weights in their place."""
    artifact = run(language_folder, tmp_path / "a", "distill.epochs=1", f"text_model.trains={trains}")
    name = max(name for name in artifact.weights if name.startswith("text_model."))
    del artifact.weights[name]
    langadapt.models.write_artifact(tmp_path / "b", artifact)
    with pytest.raises(ModelError, match="the trained weights do not fit") as error:
        langadapt.load(tmp_path / "b")
    assert "\n" not in str(error.value)
