"""Learned prompts on frozen towers: what they are at step 0, and what never changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sealing import reseal_json
from tiny_language import COLOURS, THINGS
from torch.nn import functional as F

import langadapt
from langadapt.data.classification import ClassNames
from langadapt.errors import DataError, ModelError, RecipeError
from langadapt.models import LanguageModel
from langadapt.models.caches import patch_states, stored_patches
from langadapt.models.prompts import PromptClassifier, prompt_texts, text_tower
from langadapt.models.prompts_artifact import PromptFacts, load_prompts, read_facts, write_prompts
from langadapt.recipes import find_language, override
from langadapt.recipes.stages import FewShotStage
from langadapt.training import RunOptions, distill
from langadapt.training.few_shot import CONTEXTS, FewShotTask, Shots, new_learner, train_prompts

NAMES = list(COLOURS.values())
TEMPLATE = "un gato pardo {label} en mar"
ENGLISH = "a {label} cat at sea"
ALL = FewShotStage(
    steps=4, batch_size=4, learning_rate=0.5, instance_images=4, instance_classes=3, instance_rate=6.4
)


@pytest.fixture(scope="module")
def model(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    out = tmp_path_factory.mktemp("prompted") / "es"
    # Long enough for its classes to be far apart.
    found = override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=4"])
    distill(found, out, report=lambda progress: None, options=RunOptions(device=torch.device("cpu")))
    return langadapt.load(out)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
    return [folder / f"{number}.png" for number in range(12)]


@pytest.fixture(scope="module")
def shots(model: LanguageModel, photos: list[Path]) -> Shots:
    images = model.encode_images(photos)
    return Shots(images=images, labels=torch.arange(12) % 6, patches=stored_patches(model.teacher, photos))


def untrained(
    model: LanguageModel, shots: Shots, spec: FewShotStage, *, english: bool = False
) -> PromptClassifier:
    tower = text_tower(model, "teacher") if english else text_tower(model, "student")
    texts = prompt_texts(tower, ENGLISH if english else TEMPLATE, list(COLOURS) if english else NAMES)
    learner = new_learner(tower, texts, spec, shots)
    return PromptClassifier(
        tower=tower, learner=learner, texts=texts, classes=torch.arange(6), chunk_texts=spec.chunk_texts,
        rescored_classes=spec.rescored_classes,
    )  # fmt: skip


def trained(model: LanguageModel, shots: Shots, spec: FewShotStage) -> PromptClassifier:
    tower, unused = text_tower(model, "student"), torch.empty(0)
    task = FewShotTask(
        tower=tower, labels=NAMES, template=TEMPLATE, temperature=0.05, spec=spec, shots=shots,
        template_rows=unused, ensemble_rows=unused,
    )  # fmt: skip
    return train_prompts(task, spec, report=lambda progress: None)


@pytest.mark.parametrize("contexts", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("layout", ["added", "separate"])
def test_step_0_is_the_template(
    model: LanguageModel, shots: Shots, contexts: dict[str, bool], layout: str
) -> None:
    spec = ALL.model_copy(update={**contexts, "layout": layout})
    found = untrained(model, shots, spec).scores(shots.images, shots.patches)
    rows = model.encode_text([TEMPLATE.replace("{label}", name) for name in NAMES])
    torch.testing.assert_close(found, shots.images @ rows.T, rtol=0, atol=2e-6)
    assert float((rows @ rows.T).tril(-1).max()) < 0.9999, "the classes can be told apart"


def test_step_0_is_the_template_through_the_teacher(model: LanguageModel, shots: Shots) -> None:
    found = untrained(model, shots, ALL, english=True).scores(shots.images, shots.patches)
    rows = []
    for name in COLOURS:
        given = model.teacher.tokenizer(ENGLISH.replace("{label}", name), return_tensors="pt")
        with torch.no_grad():
            rows.append(model.teacher.module.get_text_features(**given).pooler_output[0])
    expected = shots.images @ F.normalize(torch.stack(rows), dim=-1).T
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_with_a_closed_gate_a_structured_prompt_is_coop(model: LanguageModel, shots: Shots) -> None:
    coop = trained(model, shots, ALL.model_copy(update=CONTEXTS["coop"]))
    structured = untrained(model, shots, ALL)
    assert coop.learner.general is not None
    assert structured.learner.general is not None
    with torch.no_grad():
        structured.learner.general.copy_(coop.learner.general)
    assert float(coop.learner.general.detach().abs().max()) > 0.1, "something was learned"
    torch.testing.assert_close(
        structured.scores(shots.images, shots.patches), coop.scores(shots.images, None), rtol=0, atol=2e-6
    )


def test_everything_frozen_stays_bitwise_and_every_context_learns(model: LanguageModel, shots: Shots) -> None:
    def frozen() -> dict[str, torch.Tensor]:
        parts = {"student": model.student, "teacher": model.teacher.module}
        return {f"{p}.{n}": v.clone() for p, module in parts.items() for n, v in module.state_dict().items()}

    before = frozen()
    rows = model.encode_text(NAMES)
    classifier = trained(model, shots, ALL)
    after = frozen()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(rows, model.encode_text(NAMES)), "no offset is left behind in the tower"
    assert all(p.grad is None for p in model.student.parameters())
    fresh = untrained(model, shots, ALL).learner.state_dict()
    moved = {
        name: not torch.equal(value, fresh[name]) for name, value in classifier.learner.state_dict().items()
    }
    assert all(moved.values()), moved


@pytest.mark.parametrize("alone", [True, False])
def test_what_learns_from_prompts_with_an_instance_context(
    model: LanguageModel, shots: Shots, alone: bool
) -> None:
    classifier = untrained(model, shots, ALL.model_copy(update={"instance_alone": alone}))
    assert shots.patches is not None
    classifier.image_rows(torch.arange(6).expand(2, -1), shots.patches[:2])[..., 0].sum().backward()
    learner = classifier.learner
    assert learner.instance is not None
    assert learner.instance.gate.grad is not None
    assert float(learner.instance.gate.grad.abs()) > 0
    for context in (learner.general, learner.domain):
        assert context is not None
        assert (context.grad is None) == alone


def test_an_instance_context_answers_to_the_image(model: LanguageModel, shots: Shots) -> None:
    classifier = trained(model, shots, ALL)
    one = torch.arange(6).expand(2, -1)
    assert shots.patches is not None
    rows = classifier.image_rows(one, shots.patches[:2]).detach()
    assert float((rows[0] - rows[1]).abs().max()) > 1e-4
    whole = replace(classifier, rescored_classes=6).scores(shots.images, shots.patches)
    every = classifier.image_rows(torch.arange(6).expand(12, -1), shots.patches).detach()
    torch.testing.assert_close(whole, torch.einsum("bd,bkd->bk", shots.images, every), rtol=0, atol=2e-6)
    plain = shots.images @ classifier.class_rows().detach().T
    two = replace(classifier, rescored_classes=2).scores(shots.images, shots.patches)
    best = torch.zeros(12, 6, dtype=torch.bool).scatter(1, plain.topk(2, dim=1).indices, True)
    torch.testing.assert_close(two, torch.where(best, whole, plain), rtol=0, atol=2e-6)
    assert float((whole - plain).abs().max()) > 1e-4
    dull = trained(model, shots, ALL.model_copy(update=CONTEXTS["domain"]))
    assert not dull.sees_images
    torch.testing.assert_close(dull.scores(shots.images, shots.patches), dull.scores(shots.images, None))


@pytest.mark.parametrize("contexts", ["structured", "domain"])
def test_chunks_change_neither_scores_nor_gradients(
    model: LanguageModel, shots: Shots, contexts: str
) -> None:
    spec = ALL.model_copy(update=CONTEXTS[contexts])
    whole = trained(model, shots, spec)
    parts = trained(model, shots, spec.model_copy(update={"chunk_texts": 5}))
    for (name, one), other in zip(
        whole.learner.state_dict().items(), parts.learner.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3, msg=lambda m: f"{name}: {m}")  # noqa: B023
    torch.testing.assert_close(
        whole.scores(shots.images, shots.patches),
        parts.scores(shots.images, shots.patches),
        rtol=0,
        atol=1e-3,
    )


def test_training_is_deterministic_and_learns_the_shots(model: LanguageModel, shots: Shots) -> None:
    spec = ALL.model_copy(
        update={**CONTEXTS["domain"], "steps": 30, "template_weight": 0.0, "domain_rate": 64.0}
    )
    first, second = trained(model, shots, spec), trained(model, shots, spec)
    scores = first.scores(shots.images, None)
    assert torch.equal(scores, second.scores(shots.images, None))
    start = untrained(model, shots, spec).scores(shots.images, None)
    right = [float((s.argmax(1) == shots.labels).float().mean()) for s in (start, scores)]
    assert right[1] >= right[0] + 0.3, right


def test_a_strong_template_weight_keeps_the_template(model: LanguageModel, shots: Shots) -> None:
    start = untrained(model, shots, ALL).class_rows().detach()
    near = []
    for weight in (0.0, 100.0):
        spec = ALL.model_copy(
            update={**CONTEXTS["domain"], "steps": 12, "template_weight": weight, "domain_rate": 64.0}
        )
        near.append(float((trained(model, shots, spec).class_rows().detach() * start).sum(1).mean()))
    assert near[1] > near[0] + 0.01


def test_classes_that_were_not_trained_have_no_domain(model: LanguageModel, shots: Shots) -> None:
    classifier = trained(model, shots, ALL.model_copy(update=CONTEXTS["domain"]))
    none = torch.full((2,), -1)
    novel = classifier.with_names(TEMPLATE, list(THINGS.values())[:2], none)
    offsets = novel.learner(none, None)
    assert classifier.learner.general is not None
    general = classifier.learner.general * classifier.learner.token_scale
    torch.testing.assert_close(offsets, general.expand(2, -1, -1))
    same = classifier.with_names(TEMPLATE, NAMES, torch.arange(6))
    torch.testing.assert_close(same.class_rows(), classifier.class_rows())


def test_slots_are_the_templates_tokens(model: LanguageModel) -> None:
    tower = text_tower(model, "student")
    texts = prompt_texts(tower, TEMPLATE, ["rojo", "gato rojo"])
    # <s> un gato pardo LABEL en mar </s>
    assert (texts.before, texts.slots) == (3, 5)
    assert texts.slot.tolist() == [[-1, 2, 1, 0, -1, 3, 4, -1, -1], [-1, 2, 1, 0, -1, -1, 3, 4, -1]]
    with pytest.raises(DataError, match="text 1 is empty"):
        prompt_texts(tower, TEMPLATE, ["rojo", " "])
    with pytest.raises(DataError, match="has 19 tokens"):
        prompt_texts(tower, TEMPLATE, ["rojo " * 12])


def test_impossible_specs_are_refused(model: LanguageModel, shots: Shots) -> None:
    off = {"general": False, "domain": False, "instance": False}
    with pytest.raises(RecipeError, match="nothing would be learned"):
        untrained(model, shots, ALL.model_copy(update=off))
    with pytest.raises(RecipeError, match=r"has 3 tokens before \{label\}, layout separate needs 4"):
        untrained(model, shots, ALL.model_copy(update={"layout": "separate", "domain_tokens": 2}))
    with pytest.raises(RecipeError, match="no patch states"):
        untrained(model, Shots(images=shots.images, labels=shots.labels), ALL)


def test_patches_are_the_towers_last_states_and_are_stored(model: LanguageModel, photos: list[Path]) -> None:
    stored = stored_patches(model.teacher, photos)
    vision = model.teacher.module.vision_model
    pixels = model.teacher.image_processor([Image.open(photos[3]).convert("RGB")], return_tensors="pt")
    with torch.no_grad():
        expected = vision(pixels["pixel_values"]).last_hidden_state[0]
    torch.testing.assert_close(stored[3].float(), expected, rtol=0.01, atol=0.02)
    (again,) = patch_states(model.teacher, photos[:2])
    assert again.shape == (2, *expected.shape)


def test_saved_prompts_come_back_small_and_only_on_their_own_models(
    model: LanguageModel, shots: Shots, tmp_path: Path
) -> None:
    classifier = trained(model, shots, ALL)
    facts = PromptFacts(
        spec=ALL, template=TEMPLATE, classes=tuple(ClassNames(folder=n, names=(n, "otro")) for n in NAMES),
        tower="student", text=classifier.tower.label, image=model.teacher.source.label, run="runs/es",
    )  # fmt: skip
    folder = tmp_path / "prompts"
    write_prompts(folder, classifier, facts)
    assert {path.name for path in folder.iterdir()} == {"prompts.json", "prompts.safetensors"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000
    assert read_facts(folder) == facts
    again = load_prompts(folder, model)
    torch.testing.assert_close(
        again.scores(shots.images, shots.patches), classifier.scores(shots.images, shots.patches),
        rtol=0, atol=2e-3,
    )  # fmt: skip
    text = (folder / "prompts.json").read_text(encoding="utf-8")
    for old, new in (("otro", "ella"), (TEMPLATE, f"no {TEMPLATE}"), (facts.text, "other@1")):
        (folder / "prompts.json").write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ModelError, match=r"prompts.json was changed after it was written"):
            load_prompts(folder, model)
    reseal_json(folder / "prompts.json", "", "")
    with pytest.raises(ModelError, match=r"learned with the text model other@1, this one is .*--model"):
        load_prompts(folder, model)
    (folder / "prompts.json").write_text(text, encoding="utf-8")
    (folder / "prompts.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_prompts(folder, model)
    with pytest.raises(ModelError, match="it is the folder that `langadapt prompts` wrote"):
        load_prompts(tmp_path, model)
