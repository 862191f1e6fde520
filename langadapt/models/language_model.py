"""What a user holds after `langadapt.load`: texts of one language or several, and images, in one space.

A distilled student on its teacher, two encoders that were aligned, or an image-text model of transformers,
tuned or not: all are a `LanguageModel`, and every command takes each of them.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor

from langadapt.cleaning.words import ScriptShare, fold_tokens
from langadapt.data.tokens import require_text
from langadapt.errors import DataError, ModelError
from langadapt.models.artifact import Artifact, BaseModel, read_artifact
from langadapt.models.caches import image_embeddings
from langadapt.models.frozen_text import FrozenText
from langadapt.models.load import ARTIFACT, ResolvedModel, resolve_model
from langadapt.models.new_pieces import extend_text_model
from langadapt.models.student import Student, TextModel, load_text_model
from langadapt.models.teacher import Teacher, join_encoders, load_dual_encoder
from langadapt.models.tuning import is_tuned, restore_stages
from langadapt.recipes import LanguageRecipe, ModelRef

Loaded = TypeVar("Loaded", Teacher, TextModel)

LEAST_CERTAINTY = 0.8
"""Below it a text belongs to no language."""


@dataclass(kw_only=True, eq=False)
class LanguageModel:
    """An artifact on its base models."""

    artifact: Artifact
    student: Student | None
    """Text model and adapter, in eval mode; None where the texts go through the teacher's own text tower."""
    teacher: Teacher
    """Its image tower embeds the images."""
    text_source: ResolvedModel
    """The text model, or the image-text model whose text tower is used."""

    @property
    def dim(self) -> int:
        """D, width of every embedding."""
        return self.teacher.dim

    @property
    def text(self) -> FrozenText:
        """The text tower over many texts."""
        return self.teacher.text if self.student is None else self.student.frozen

    @property
    def label(self) -> str:
        """Text model with revision and a digest of the trained weights, as they stand in a signature."""
        return f"{self.text_source.label}+{self.artifact.digest}"

    @property
    def image_identity(self) -> str:
        """Weights and preprocessing of the image tower: equal for models that embed images alike."""
        return self.teacher.source.revision

    def encode_text(self, texts: list[str], *, exact: bool = False) -> Tensor:
        """Encode B texts of the language as `[B, D]` float32, normalised, on the CPU.

        Args:
            texts: none empty.
            exact: float32 throughout; without it bfloat16 where the device computes faster in it.

        Raises:
            DataError: an empty or whitespace text, with its row number.
        """
        return self.text.embed(texts, exact=exact)

    def encode_images(self, images: Sequence[Image | bytes | str | Path], *, batch_size: int = 64) -> Tensor:
        """Encode images as `[B, D]` float32, normalised, on the CPU.

        Args:
            images: B paths, bytes of image files, or PIL images; turned upright by their EXIF orientation.
            batch_size: images per forward pass.

        Raises:
            DataError: a file is missing or is no readable image; the line names it.
        """
        chunks = list(image_embeddings(self.teacher, images, batch_size=batch_size))
        return torch.cat(chunks) if chunks else torch.zeros(0, self.dim)


def load(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    teacher: str | None = None,
    text_model: str | None = None,
    device: str | torch.device | None = None,
    beside: Sequence[LanguageModel] = (),
) -> LanguageModel:
    """Load an adapted language model, or an image-text model of transformers as it is.

    Args:
        path_or_repo: folder of an artifact or of an image-text model, or `org/name` on the Hub.
        revision: of the artifact on the Hub.
        teacher: folder of the same teacher, where it has moved since.
        text_model: folder of the same text model, where it has moved since.
        device: where to run; the CPU unless said otherwise.
        beside: models on the same device. Their teacher, and their text model where it stayed frozen in both,
            are not loaded again; a tuned model loads its own.

    Raises:
        ModelError: artifact or base models are missing, or a base model is not the revision that the
            adapter was trained on.

    Example:
        `langadapt.load("runs/zh").encode_text(["一只狗在沙滩上奔跑"])`
    """
    artifact = read_artifact(path_or_repo, revision=revision)
    if is_tuned(artifact.weights):  # what it changes in its towers must change in nobody else's
        beside = ()
    return assemble(artifact, teacher=teacher, text_model=text_model, device=device, beside=beside)


def assemble(
    artifact: Artifact,
    *,
    teacher: str | None = None,
    text_model: str | None = None,
    device: str | torch.device | None = None,
    beside: Sequence[LanguageModel] = (),
) -> LanguageModel:
    """Put an artifact onto its base models; see `load`."""
    where, recipe = torch.device(device or "cpu"), artifact.recipe
    text_source = _same_model(artifact.text_model, text_model, role="text_model")
    teacher_source = _same_model(artifact.teacher, teacher, role="teacher")
    if recipe.align is not None:
        own = join_encoders(teacher_source, text_source, recipe.text_model, recipe.align, device=where)
    else:
        # A tuned text tower of a teacher is in its module, not in its revision.
        known = (m.teacher for m in beside if m.student or not is_tuned(m.artifact.weights))
        own = _same(known, teacher_source) or load_teacher(teacher_source, device=where)
    student = None
    if recipe.is_distilled:
        shared = [m.student.text_model for m in beside if m.student and _stays_frozen(m.artifact)]
        encoder = load_text_model(
            text_source,
            recipe.text_model,
            max_tokens=recipe.distill.max_tokens,
            device=where,
            beside=_same(shared, text_source) if _stays_frozen(artifact) else None,
        )
        if artifact.vocabulary is not None:
            extend_text_model(encoder, artifact.vocabulary, seed=recipe.distill.seed)
        with torch.random.fork_rng(devices=[]):  # the adapter draws weights, which the artifact's replace
            student = Student(text_model=encoder, spec=recipe.adapter, target_dim=artifact.target_dim)
    own = restore_stages(artifact.weights, recipe, student, own)
    return LanguageModel(artifact=artifact, student=student, teacher=own, text_source=text_source)


def load_teacher(source: ResolvedModel, *, device: torch.device | None = None) -> Teacher:
    """Load a model that embeds texts and images: one of transformers, or what `align` made."""
    if not (source.path / ARTIFACT).is_file():
        return load_dual_encoder(source, device=device)
    model = load(source.path, device=device)
    if model.student is not None:
        what = "is a distilled student, which imitates a teacher of its own"
        raise ModelError(f"{source.repo} {what}; name that one: {model.artifact.teacher.repo}")
    return replace(model.teacher, source=source)


def _stays_frozen(artifact: Artifact) -> bool:
    return artifact.recipe.text_model.trains == ("locked",) and not is_tuned(artifact.weights)


def _same(models: Iterable[Loaded], source: ResolvedModel) -> Loaded | None:
    return next((model for model in models if model.source.revision == source.revision), None)


def _same_model(base: BaseModel, override: str | None, *, role: str) -> ResolvedModel:
    if base.local and override is None and not Path(base.repo).is_dir():
        raise ModelError(f"{base.repo}: the artifact's {role} is gone; give its folder: {role}=...")
    revision = None if base.local else base.revision
    found = resolve_model(ModelRef(repo=override or base.repo, revision=revision))
    if found.revision != base.revision:
        was = f"the adapter was trained on {role} {base.repo} at {base.revision}, this is {found.revision}"
        raise ModelError(f"{found.repo}: {was}; an adapter fits only the weights that it was trained on")
    return found


class LanguageSet:
    """Models of several languages, one of each, of one teacher; the language is said, or told from a text.

    A model of several languages answers to each of their codes.
    """

    def __init__(self, *, models: Sequence[LanguageModel]) -> None:
        self.models: dict[str, LanguageModel] = {}
        for model in models:
            recipe, first = model.artifact.recipe, models[0]
            code = recipe.code
            for own in recipe.languages or (code,):
                if own in self.models:
                    raise ModelError(f"two models of the language {own}; a set has one of each")
                self.models[own] = model
            if model.artifact.teacher.revision != first.artifact.teacher.revision:
                own, other = model.teacher.source.label, first.teacher.source.label
                teachers = f"its teacher is {own}, that of {first.artifact.recipe.code} is {other}"
                raise ModelError(f"{code}: {teachers}; a set has one space and so one teacher")
        if not self.models:
            raise ModelError("a set needs at least one model")

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes, in the order in which they were given."""
        return tuple(self.models)

    @property
    def teacher(self) -> Teacher:
        """The one teacher; its image tower embeds the images."""
        return self.models[self.languages[0]].teacher

    @property
    def dim(self) -> int:
        """D, width of every embedding."""
        return self.teacher.dim

    def encode_text(self, texts: list[str], *, language: str | None = None) -> Tensor:
        """Encode B texts as `[B, D]` float32, normalised, on the CPU, in their order.

        Args:
            texts: none empty.
            language: code of a loaded language; None tells it from each text (see `detect`).

        Raises:
            DataError: an empty text, with its row number, or one whose language cannot be told.
            ModelError: no such language in the set.
        """
        if language is not None and language not in self.models:
            raise ModelError(f"no model of '{language}' in this set; it has {', '.join(self.models)}")
        codes = self.detect(texts) if language is None else [language] * len(texts)
        out = torch.zeros(len(texts), self.dim)
        for code in dict.fromkeys(codes):
            rows = [row for row, own in enumerate(codes) if own == code]
            out[rows] = self.models[code].encode_text([texts[row] for row in rows])
        return out

    def encode_images(self, images: Sequence[Image | bytes | str | Path], *, batch_size: int = 64) -> Tensor:
        """Encode images: the same rows for every language. See `LanguageModel.encode_images`."""
        return self.models[self.languages[0]].encode_images(images, batch_size=batch_size)

    def detect(self, texts: Sequence[str]) -> list[str]:
        """The language of each text, of those in the set; see `detect` of this module."""
        require_text(texts)
        recipes = {id(model): model.artifact.recipe for model in self.models.values()}
        if len(recipes) == 1:
            return [self.languages[0]] * len(texts)
        return detect(texts, [*recipes.values()])


def load_set(
    paths_or_repos: Sequence[str | Path], *, device: str | torch.device | None = None
) -> LanguageSet:
    """Load several artifacts of one teacher as one set.

    The teacher is held once. So is a text model that stayed frozen in several of them; where something of it
    trained, the language brings its own.

    Args:
        paths_or_repos: folders of artifacts, or `org/name` on the Hub.
        device: where to run; the CPU by default.

    Raises:
        ModelError: what `load` raises, two models of one language, or different teachers.

    Example:
        `langadapt.load_set(["runs/zh", "runs/de"]).encode_text(["ein roter Hund"], language="de")`
    """
    models: list[LanguageModel] = []
    for path in paths_or_repos:
        models.append(load(path, device=device, beside=models))
    return LanguageSet(models=models)


def detect(texts: Sequence[str], recipes: Sequence[LanguageRecipe]) -> list[str]:
    """Codes of the languages that texts, none of them empty, are in.

    A language is left out where most of the text (see `ScriptShare`) is in scripts that its recipe does not
    name. If languages of more than one recipe are left, py3langid decides between them; else it is the first.
    Raise a DataError for a text that fits no recipe, or more than one almost as well.
    """
    owners = {one.code: number for number, recipe in enumerate(recipes) for one in recipe.members}
    scripts = {one.code: one.scripts for recipe in recipes for one in recipe.members}
    shares = {own: ScriptShare(scripts=own) for own in {*scripts.values()}}
    found: list[str] = []
    for row, text in enumerate(texts):
        words = fold_tokens(text) if any(map(str.isalpha, text)) else []
        fits = {own for own, share in shares.items() if words and share(words) > 0.5}
        left = [code for code, own in scripts.items() if own in fits]
        code, certainty = left[0] if left else "", float(bool(left))
        if len({owners[code] for code in left}) > 1:
            ranked = _identifier(frozenset(left)).rank(text)
            best = {owners[other]: float(share) for other, share in reversed(ranked)}
            code = str(ranked[0][0])
            certainty = best[owners[code]] / sum(best.values())  # languages of one model are no rivals
        if certainty < LEAST_CERTAINTY:
            shown, known = text if len(text) <= 30 else text[:29] + "…", ", ".join(scripts)
            unknown = f"text {row} ({shown!r}): cannot tell which of {known} it is in"
            raise DataError(f"{unknown}; say its language")
        found.append(code)
    return found


@functools.cache
def _identifier(codes: frozenset[str]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        install = "pip install 'langadapt[languages]', or say the language"
        raise ModelError(f"telling languages of one script apart needs py3langid: {install}") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := sorted(codes - set(identifier.labels)):
        raise ModelError(f"py3langid does not know {', '.join(unknown)}; say the language of these texts")
    identifier.set_languages(sorted(codes))
    return identifier
