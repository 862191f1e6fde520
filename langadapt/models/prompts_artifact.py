"""Learned prompts on disk: a few KB of offsets, and what they belong to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError

from langadapt.data.classification import ClassNames
from langadapt.errors import ModelError
from langadapt.files.atomic import check_folder, read_sealed, read_weights, write_sealed, write_tensors
from langadapt.files.fetch import one_line
from langadapt.models.language_model import LanguageModel
from langadapt.models.prompts import PromptClassifier, TowerName, prompt_texts, text_tower
from langadapt.nn.prompts import PromptLearner
from langadapt.recipes.stages import FewShotStage

FORMAT_VERSION = 2
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
    """The first name of each class: in the language for the student, in English for the teacher."""
    if tower == "student":
        return [item.shown for item in classes]
    without = [item.folder for item in classes if not item.english]
    if without:
        raise ModelError(f"class '{without[0]}' has no English name; the teacher reads no other: add one")
    return [item.english[0] for item in classes]


_FACTS = TypeAdapter(PromptFacts)


def write_prompts(folder: Path, classifier: PromptClassifier, facts: PromptFacts) -> None:
    """Write learned prompts; each file appears whole or not at all, the facts last. Weights are halved."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() for name, value in classifier.learner.state_dict().items()}
    write_tensors(folder / WEIGHTS, weights)
    facts_json = _FACTS.dump_python(facts, mode="json")
    write_sealed(folder / FACTS, facts_json, version=FORMAT_VERSION, files=[WEIGHTS])


def read_facts(folder: Path) -> PromptFacts:
    """Read what `write_prompts` wrote beside the weights; refuse what is incomplete, damaged or changed."""
    check_folder(folder, (FACTS, WEIGHTS), "it is the folder that `langadapt prompts` wrote")
    try:
        again = "learn the prompts again"
        facts = read_sealed(folder / FACTS, version=FORMAT_VERSION, files={WEIGHTS}, again=again)
        return _FACTS.validate_json(json.dumps(facts))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelError(f"{folder}: damaged prompts: {one_line(error)}") from error


def load_prompts(folder: Path, model: LanguageModel) -> PromptClassifier:
    """Put learned prompts on the models that they were learned with; refuse others."""
    facts = read_facts(folder)
    tower = text_tower(model, facts.tower)
    for name, wanted, here in (
        ("text model", facts.text, tower.label),
        ("teacher", facts.image, model.teacher.source.label),
    ):
        if wanted != here:
            this = f"learned with the {name} {wanted}, this one is {here}"
            raise ModelError(f"{folder}: {this}; name the run with --model")
    texts = prompt_texts(tower, facts.template, facts.labels)
    try:
        weights = read_weights(folder / WEIGHTS)
        learner = PromptLearner(
            spec=facts.spec,
            slots=texts.slots,
            classes=len(facts.classes),
            table=tower.embedding,
            patch_dim=weights["instance.key.weight"].shape[1] if facts.spec.instance else 0,
        )
        learner.load_state_dict(weights)
    except (RuntimeError, LookupError, SafetensorError) as error:
        raise ModelError(f"{folder}: damaged prompts: {one_line(error)}") from error
    return PromptClassifier(
        tower=tower,
        learner=learner.to(tower.embedding.weight.device).eval(),
        texts=texts,
        classes=torch.arange(len(facts.classes)),
        chunk_texts=facts.spec.chunk_texts,
        rescored_classes=facts.spec.rescored_classes,
    )
