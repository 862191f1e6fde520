"""Learned prompts on disk: a few KB of offsets, and what they belong to."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from langadapt.data.classification import ClassNames
from langadapt.errors import ModelError
from langadapt.files.atomic import write_tensors, write_text
from langadapt.models.artifact import file_hash
from langadapt.models.language_model import LanguageModel
from langadapt.models.prompts import PromptClassifier, TowerName, prompt_texts, text_tower
from langadapt.nn.prompts import PromptLearner
from langadapt.recipes.stages import FewShotStage

FORMAT_VERSION = 1
WEIGHTS, FACTS = "prompts.safetensors", "prompts.json"


@dataclass(frozen=True, kw_only=True)
class PromptFacts:
    """Everything of learned prompts but their weights and the models that they stand on."""

    spec: FewShotStage
    template: str
    classes: tuple[ClassNames, ...]
    tower: TowerName
    text: str
    """Label of the text tower, with revision and digest."""
    image: str
    """Label of the teacher."""
    run: str
    """Where the language model was when the prompts were learned."""
    training: dict[str, Any] = field(default_factory=dict)
    """Shots, seconds, fingerprint of the images."""

    @property
    def labels(self) -> list[str]:
        """The one name of each class that is put into the prompt."""
        return prompt_labels(self.classes, self.tower)


def prompt_labels(classes: tuple[ClassNames, ...], tower: TowerName) -> list[str]:
    """The first name of each class: in the language for the student, in English for the teacher.

    Raises:
        ModelError: the teacher is asked for and a class has no English name.
    """
    if tower == "student":
        return [item.shown for item in classes]
    without = [item.folder for item in classes if not item.english]
    if without:
        raise ModelError(
            f"class '{without[0]}' has no English name; the teacher reads no other: add a third column"
        )
    return [item.english[0] for item in classes]


def write_prompts(folder: Path, classifier: PromptClassifier, facts: PromptFacts) -> None:
    """Write learned prompts; each file appears whole or not at all, the facts last. Weights are halved."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() for name, value in classifier.learner.state_dict().items()}
    write_tensors(folder / WEIGHTS, weights)
    learner = classifier.learner
    content = {
        "format_version": FORMAT_VERSION,
        **{key: value for key, value in asdict(facts).items() if key != "spec"},
        "spec": facts.spec.model_dump(mode="json"),
        "slots": {"before": classifier.texts.before, "after": classifier.texts.after},
        "patch_dim": learner.instance.key.in_features if learner.instance else 0,
        "weights_sha256": file_hash(folder / WEIGHTS),
    }
    write_text(folder / FACTS, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_facts(folder: Path) -> tuple[PromptFacts, dict[str, Any]]:
    """What `write_prompts` wrote beside the weights, and the sizes of the learned part.

    Raises:
        ModelError: not there, incomplete, damaged, or of a newer format.
    """
    for name in (FACTS, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: no {name} in it; it is the folder that `langadapt prompts` wrote")
    try:
        said = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if said.pop("format_version") > FORMAT_VERSION:
            raise ModelError(
                f"{folder}: written by a newer langadapt; update with `pip install -U langadapt`"
            )
        if said.pop("weights_sha256") != file_hash(folder / WEIGHTS):
            raise ModelError(f"{folder}: {WEIGHTS} is not the file that was written; learn the prompts again")
        sizes = {key: said.pop(key) for key in ("slots", "patch_dim")}
        classes = tuple(
            ClassNames(folder=c["folder"], names=tuple(c["names"]), english=tuple(c["english"]))
            for c in said.pop("classes")
        )
        spec = FewShotStage.model_validate_json(json.dumps(said.pop("spec")))
        return PromptFacts(spec=spec, classes=classes, **said), sizes
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: damaged prompts: {str(error).splitlines()[0]}") from error


def load_prompts(folder: Path, model: LanguageModel) -> PromptClassifier:
    """Put learned prompts on the models that they were learned with.

    Raises:
        ModelError: not there or damaged, or learned with another language model or teacher.
    """
    facts, sizes = read_facts(folder)
    tower = text_tower(model, facts.tower)
    for name, wanted, here in (
        ("text model", facts.text, tower.label),
        ("teacher", facts.image, model.teacher.source.label),
    ):
        if wanted != here:
            raise ModelError(
                f"{folder}: learned with the {name} {wanted}, this one is {here}; name the run with --model"
            )
    texts = prompt_texts(tower, facts.template, facts.labels)
    try:
        learner = PromptLearner(
            spec=facts.spec,
            before=sizes["slots"]["before"],
            after=sizes["slots"]["after"],
            classes=len(facts.classes),
            token_dim=tower.token_dim,
            patch_dim=sizes["patch_dim"],
            token_scale=tower.token_scale,
        )
        weights = load_file(folder / WEIGHTS)
        learner.load_state_dict({name: value.float() for name, value in weights.items()})
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"{folder}: damaged prompts: {str(error).splitlines()[0]}") from error
    return PromptClassifier(
        tower=tower,
        learner=learner.to(tower.embedding.weight.device).eval(),
        texts=texts,
        classes=torch.arange(len(facts.classes)),
        chunk_texts=facts.spec.chunk_texts,
        rescored_classes=facts.spec.rescored_classes,
    )
