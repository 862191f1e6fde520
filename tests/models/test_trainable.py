"""Each method trains what it says, changes nothing before it has learned, and comes back as it was saved."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_language import sentences
from torch import Tensor
from transformers import BertConfig, BertModel, MobileNetV2Model, VisionTextDualEncoderModel

from langadapt.errors import ModelError
from langadapt.models import Student, Teacher, load_teacher, load_text_model, resolve_model
from langadapt.models.student import student_tower
from langadapt.models.teacher import image_tower
from langadapt.models.trainable import (
    Tower,
    TrainableTower,
    finish_training,
    make_trainable,
    restore_changes,
    weight_changes,
)
from langadapt.models.tuning import trainable_student
from langadapt.recipes import AdapterSpec, LastLayers, Lora, Method, ModelRef, TextModelRef, trainable_text

TEXTS = [target for _, target in sentences()[::19]]
PICTURES = [Image.radial_gradient("L").convert("RGB").rotate(angle) for angle in (0, 30)]
LORA, LAST = Lora(lora=Lora.Size(rank=2)), LastLayers(last=1)
LILT: tuple[Method, ...] = ("adapters", "layer_norm", "projection")
# A layer of width 32 with feed-forward 64 has 8 * 32**2 weights, 32 * 10 biases and 4 * 32 of them in norms.
LAYER = 4 * 32 * 33 + 32 * 64 + 64 + 64 * 32 + 32 + 4 * 32
BOTTLENECK = 32 * 8 + 8 + 8 * 32 + 32
ADAPTER_LAYER = 3 * 32 * 33 + 32 * 33 + 32 * 64 + 64 + 64 * 32 + 32 + 4 * 32
TOP = 4 * 32 * 33 + 2 * 128 * 32 + 128 + 32 + 4 * 32
TEXT_CASES: list[tuple[tuple[Method, ...], int | None]] = [
    (("full",), None),
    # 3 layers and the embeddings of the text model, one layer and the output of the adapter.
    (("layer_norm",), 2 * 32 * (2 * 3 + 1) + 2 * 32 * (2 + 1 + 1)),
    (("bitfit",), None),
    (("adapters",), 2 * 4 * BOTTLENECK),
    (("layer",), TOP),
    (("projection",), 32 * 24 + 24),
    (("head",), None),
    ((LORA,), 3 * 2 * (2 * 32 + 2 * 32)),
    ((LAST,), LAYER),
    (("embeddings",), None),
    (LILT, None),
    (("layer", LORA, "bitfit"), None),
]
IMAGE_CASES: list[tuple[tuple[Method, ...], int | None]] = [
    (("full",), None),
    (("layer_norm",), 2 * 32 * (2 * 2 + 2)),
    (("bitfit",), None),
    (("adapters",), 2 * 2 * BOTTLENECK),
    (("layer",), TOP),
    (("projection",), 32 * 24),
    ((LORA,), 2 * 2 * (2 * 32 + 2 * 32)),
    ((LAST,), LAYER),
    (LILT, None),
]


@pytest.fixture(scope="module")
def convolutional(
    vision_folder: Path, teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Teacher]:
    """A dual encoder whose image tower is a MobileNetV2."""
    folder = tmp_path_factory.mktemp("dual")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = MobileNetV2Model.from_pretrained(vision_folder)
    vision.config.hidden_size = 1280
    model = VisionTextDualEncoderModel(
        vision_model=vision,
        text_model=BertModel(BertConfig(vocab_size=50, **tower)),
    )
    model.save_pretrained(folder)
    for source, pattern in ((teacher_folder, "*token*"), (vision_folder, "*processor*")):
        for path in source.glob(pattern):
            shutil.copy(path, folder)
    return lambda: load_teacher(resolve_model(ModelRef(repo=str(folder))))


@pytest.fixture
def student(text_model_folder: Path) -> Student:
    return make_student(text_model_folder)


def make_student(folder: Path, *, layers: int = 1) -> Student:
    ref = TextModelRef(repo=str(folder))
    spec = AdapterSpec(bottleneck_dim=32, layers=layers, heads=2, feedforward_dim=64)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = load_text_model(resolve_model(ref), ref, max_tokens=16)
        made = Student(text_model=model, spec=spec, target_dim=24)
    return made.requires_grad_(False).eval()


def shake(tuned: TrainableTower) -> None:
    """A little of what training does: values that half precision can hold next to nothing."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in tuned.trained().values():
            value += 0.05 * torch.randn(value.shape, generator=generator)


def check(
    methods: tuple[Method, ...],
    count: int | None,
    make: Callable[[], Tower],
    answer: Callable[[Tower], Tensor],
) -> None:
    tower = make()
    before = answer(tower)
    frozen = {name: value.detach().clone() for name, value in tower.module.named_parameters()}
    tuned = make_trainable(tower, methods, seed=0)
    torch.testing.assert_close(answer(tower), before, rtol=0, atol=1e-6)
    trained = tuned.trained()
    assert trained
    if count is not None:
        assert sum(value.numel() for value in trained.values()) == count
    assert tuned.added == {name for name in trained if name not in frozen and ".base_layer." not in name}
    shake(tuned)
    for name, value in tower.module.named_parameters():
        if name not in trained and name in frozen:
            assert torch.equal(value, frozen[name]), f"{name} is frozen"
    changed = answer(tower)
    assert not torch.allclose(changed, before, atol=1e-4), "what trains is in the way"
    again = make()
    fresh = make_trainable(again, methods, seed=1)
    restore_changes(fresh, weight_changes(tuned))
    torch.testing.assert_close(answer(again), changed, rtol=0, atol=1e-6)
    assert not any(value.requires_grad for value in again.weights().values())


@pytest.mark.parametrize(("methods", "count"), TEXT_CASES, ids=str)
def test_methods_in_the_text_tower(
    methods: tuple[Method, ...], count: int | None, text_model_folder: Path
) -> None:
    def answer(tower: Tower) -> Tensor:
        assert isinstance(tower.module, Student)
        return tower.module.encode(TEXTS)

    check(methods, count, lambda: student_tower(make_student(text_model_folder)), answer)


@pytest.mark.parametrize(("methods", "count"), IMAGE_CASES, ids=str)
def test_methods_in_the_image_tower(
    methods: tuple[Method, ...], count: int | None, teacher_folder: Path
) -> None:
    made: dict[int, Teacher] = {}

    def make() -> Tower:
        teacher = load_teacher(resolve_model(ModelRef(repo=str(teacher_folder))))
        made[id(teacher.module)] = teacher
        return image_tower(teacher)

    def answer(tower: Tower) -> Tensor:
        return made[id(tower.module)].embed_images(PICTURES)

    check(methods, count, make, answer)


def test_full_and_bitfit_are_all_weights_and_all_biases(student: Student) -> None:
    everything = sum(value.numel() for value in student.parameters())
    biases = sum(value.numel() for name, value in student.named_parameters() if name.endswith("bias"))
    for method, count in (("full", everything), ("bitfit", biases)):
        tuned = make_trainable(student_tower(student), (method,), seed=0)  # type: ignore[arg-type]
        assert sum(value.numel() for value in tuned.trained().values()) == count


def test_pretrained_matrices_learn_slowly_and_the_rest_does_not(student: Student) -> None:
    tuned = make_trainable(student_tower(student), (LAST, "projection", "adapters"), seed=0)
    assert all("encoder.layer.2." in name for name in tuned.slow)
    assert len(tuned.slow) == 16
    assert not any("bottleneck" in name for name in tuned.slow)


def test_a_top_layer_does_not_read_padding(text_model_folder: Path) -> None:
    for layers in (0, 1):
        student = make_student(text_model_folder, layers=layers)
        shake(make_trainable(student_tower(student), ("layer",), seed=0))
        short, long = "gato rojo", "gato rojo en mar perro azul en camino"
        alone, together = student.encode([short]), student.encode([short, long])
        torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)

        many = [short, long, "gato"] * 20
        expected = student.encode(many, batch_tokens=9)
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            torch.testing.assert_close(student.encode(many, batch_tokens=9), expected, rtol=0, atol=1e-5)
        finally:
            torch.set_num_threads(before)


def test_layers_are_found_where_the_text_engine_has_its_own(
    student: Student, text_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = set(make_trainable(student_tower(student), ("adapters",), seed=0).trained())
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    other = make_student(text_model_folder)
    assert set(make_trainable(student_tower(other), ("adapters",), seed=0).trained()) == expected
    assert any("encoder" in name for name in expected)


def test_changes_survive_half_precision(student: Student, text_model_folder: Path) -> None:
    tuned = make_trainable(student_tower(student), ("layer_norm",), seed=0)
    with torch.no_grad():
        for value in tuned.trained().values():
            value += 4e-4  # a gain of 1.0004 is 1 in half precision
    changes = {name: value.half().float() for name, value in weight_changes(tuned).items()}
    other = make_student(text_model_folder)
    before = other.encode(TEXTS)
    restore_changes(make_trainable(student_tower(other), ("layer_norm",), seed=0), changes)
    moved = (student.encode(TEXTS) - before).norm()
    assert moved > 1e-4
    assert (other.encode(TEXTS) - student.encode(TEXTS)).norm() < 0.01 * moved


def test_of_token_embeddings_only_changed_rows_are_kept(student: Student) -> None:
    tuned = make_trainable(student_tower(student), ("embeddings",), seed=0)
    table = student.text_model.encoder.get_input_embeddings().weight  # type: ignore[operator]
    with torch.no_grad():
        table[5] += 1
        table[9, 0] -= 1
    name = "text_model.encoder.embeddings.word_embeddings.weight"
    changes = weight_changes(tuned)
    assert changes.keys() == {f"{name}.changed_rows", f"{name}.changed_values"}
    assert changes[f"{name}.changed_rows"].tolist() == [5, 9]


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (("adapters",), "has no Transformer layers, so `adapters` cannot train it"),
        (("layer",), "has no Transformer layers"),
        ((LORA,), "has no query and value projections"),
        ((LastLayers(last=17),), "has 16 layers, so `last: 17`"),
        (("embeddings",), "has no token embeddings"),
    ],
    ids=str,
)
def test_a_convolutional_tower_refuses_in_one_line(
    methods: tuple[Method, ...], words: str, convolutional: Callable[[], Teacher]
) -> None:
    with pytest.raises(ModelError, match=words) as error:
        make_trainable(image_tower(convolutional()), methods, seed=0)
    assert "\n" not in str(error.value)


def test_last_blocks_of_a_convolutional_tower(convolutional: Callable[[], Teacher]) -> None:
    """The last two of MobileNet's 16 blocks and the convolution behind them, at the lower rate."""
    tower = image_tower(convolutional())
    trainable = make_trainable(tower, (LastLayers(last=2),), seed=0)
    pretrained = dict(tower.encoder.named_parameters())
    parts = ("layer.14.", "layer.15.", "conv_1x1.")
    assert {name for name, value in pretrained.items() if value.requires_grad} == {
        name for name in pretrained if name.startswith(parts)
    }
    assert {name.removeprefix("vision_model.") for name in trainable.slow} == {
        name for name in pretrained if name.startswith(parts)
    }


def test_a_convolutional_tower_learns_norms_and_keeps_its_statistics(
    convolutional: Callable[[], Teacher],
) -> None:
    teacher = convolutional()
    tower = image_tower(teacher)
    before = teacher.embed_images(PICTURES)
    tuned = make_trainable(tower, ("layer_norm", "projection"), seed=0)
    tuned.train(True)
    assert tower.projection is not None
    assert tower.projection.training
    torch.testing.assert_close(teacher.embed_images(PICTURES), before, rtol=0, atol=1e-6)


def test_a_word_that_nobody_knows_trains_nothing(student: Student) -> None:
    with pytest.raises(ModelError, match="no way of training is called `token_table`"):
        make_trainable(student_tower(student), ("token_table",), seed=0)  # type: ignore[arg-type]
    assert not any(value.requires_grad for value in student.parameters())


def test_the_methods_for_people() -> None:
    methods = ("layer_norm", LastLayers(last=2), LastLayers(last=1), Lora(lora=Lora.Size()))
    assert trainable_text(methods) == "layer_norm, last 2 layers, last layer, lora (rank 8, alpha 16)"


@pytest.mark.parametrize("methods", [("adapters", "layer", "bitfit"), (LORA, LAST, "embeddings")], ids=str)
def test_methods_in_a_new_student(methods: tuple[Method, ...], text_model_folder: Path) -> None:
    """Adapter and methods train together, and a finished student is bit for bit the restored one."""
    made, again = make_student(text_model_folder), make_student(text_model_folder)
    adapter = sum(value.numel() for value in made.adapter.parameters())
    trainable = trainable_student(made, methods, seed=0)
    alone = trainable_student(again, methods, seed=1)
    names = trainable.trained()
    assert sum(value.numel() for name, value in names.items() if name.startswith("adapter.")) == adapter
    assert not any("adapter" in name and "bottleneck" in name for name in names), "it is new itself"
    shake(trainable)
    restore_changes(alone, finish_training(trainable))
    assert torch.equal(made.encode(TEXTS), again.encode(TEXTS))
    assert not any(".lora_" in name or ".base_layer" in name for name in made.state_dict())


def test_too_many_layers_and_foreign_changes_are_one_line(student: Student) -> None:
    with pytest.raises(ModelError, match="has 3 layers, so `last: 9`"):
        make_trainable(student_tower(student), (LastLayers(last=9),), seed=0)
    tuned = make_trainable(student_tower(student), ("projection",), seed=0)
    with pytest.raises(ModelError, match=r"do not fit .*adapter\.up\.bias"):
        restore_changes(tuned, {"adapter.up.weight": torch.zeros(24, 32)})
    wrong = {"adapter.up.weight": torch.zeros(3, 3), "adapter.up.bias": torch.zeros(24)}
    with pytest.raises(ModelError, match="do not fit"):
        restore_changes(tuned, wrong)
    assert math.isfinite(student.encode(["gato"]).sum().item())
