"""What a user holds after `langadapt.load`: texts of the language and images into one space."""

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from langadapt.errors import DataError, ModelError
from langadapt.models.artifact import Artifact, read_artifact
from langadapt.models.caches import image_embeddings
from langadapt.models.load import ResolvedModel, resolve_model
from langadapt.models.new_pieces import extend_text_model
from langadapt.models.provenance import BaseModel
from langadapt.models.student import Student
from langadapt.models.teacher import Teacher, load_teacher
from langadapt.models.text_model import TextModel, load_text_model
from langadapt.models.tuning import is_tuned, restore_stages
from langadapt.recipes import LanguageRecipe, Method, ModelRef


class LanguageModel:
    """An artifact on its base models.

    Args:
        artifact: what was read.
        student: text model and adapter, in eval mode.
        teacher: its image tower embeds the images.
    """

    def __init__(self, *, artifact: Artifact, student: Student, teacher: Teacher) -> None:
        self.artifact = artifact
        self.student = student
        self.teacher = teacher

    @property
    def dim(self) -> int:
        """D, width of every embedding."""
        return self.teacher.dim

    @property
    def label(self) -> str:
        """Text model with revision and a digest of the adapter's weights, as they stand in a signature."""
        return f"{self.student.text_model.source.label}+{self.artifact.digest}"

    @property
    def image_identity(self) -> str:
        """Weights and preprocessing of the image tower: equal for models that embed images alike."""
        return self.teacher.source.revision

    def encode_text(self, texts: list[str], *, exact: bool = False) -> Tensor:
        """Encodes texts of the language.

        Args:
            texts: B texts, none empty.
            exact: float32 throughout; without it bfloat16 where the device computes faster in it.

        Returns:
            `[B, D]` float32 unit rows on the CPU.

        Raises:
            DataError: an empty or whitespace text, with its row number.
        """
        return self.student.encode(texts, exact=exact)

    def encode_images(self, images: Sequence[Image | str | Path], *, batch_size: int = 64) -> Tensor:
        """Encodes images.

        Args:
            images: B paths or PIL images.
            batch_size: images per forward pass.

        Returns:
            `[B, D]` float32 unit rows on the CPU.

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
) -> LanguageModel:
    """Loads an adapted language model.

    Args:
        path_or_repo: folder of an artifact, or `org/name` on the Hub.
        revision: of the artifact on the Hub.
        teacher: folder of the same teacher, where it has moved since.
        text_model: folder of the same text model, where it has moved since.
        device: where to run; the CPU unless said otherwise.

    Raises:
        ModelError: artifact or base models are missing, or a base model is not the revision that the
            adapter was trained on.

    Example:
        `langadapt.load("runs/zh").encode_text(["一只狗在沙滩上奔跑"])`
    """
    return load_beside(
        path_or_repo, (), revision=revision, teacher=teacher, text_model=text_model, device=device
    )


def load_beside(
    path_or_repo: str | Path,
    beside: Sequence[LanguageModel],
    *,
    revision: str | None = None,
    teacher: str | None = None,
    text_model: str | None = None,
    device: str | torch.device | None = None,
) -> LanguageModel:
    """Loads a model as `load` does, and shares what models on the same device hold already.

    Args:
        beside: their teacher, and their text model where it stayed frozen in both, are not loaded again;
            a tuned model loads its own.
    """
    artifact = read_artifact(path_or_repo, revision=revision)
    if is_tuned(artifact.weights):  # what it changes in its towers must change in nobody else's
        beside = ()
    where = torch.device(device or "cpu")
    text_source = _same_model(artifact.text_model, text_model, role="text_model")
    teacher_source = _same_model(artifact.teacher, teacher, role="teacher")
    loaded_teacher = next(
        (m.teacher for m in beside if m.teacher.source.revision == teacher_source.revision), None
    ) or load_teacher(teacher_source, device=where)
    recipe = artifact.recipe
    encoder = load_text_model(
        text_source,
        recipe.text_model,
        max_tokens=recipe.distill.max_tokens,
        device=where,
        beside=_frozen_beside(beside, text_source, recipe.text_model.trains),
    )
    if artifact.vocabulary is not None:
        extend_text_model(encoder, artifact.vocabulary, seed=recipe.distill.seed)
    with torch.random.fork_rng(devices=[]):  # the adapter draws weights, which the artifact's replace
        student = Student(text_model=encoder, spec=recipe.adapter, target_dim=artifact.target_dim)
    loaded_teacher = restore_stages(artifact.weights, recipe, student, loaded_teacher)
    return LanguageModel(artifact=artifact, student=student, teacher=loaded_teacher)


def _frozen_beside(
    beside: Sequence[LanguageModel], source: ResolvedModel, trains: tuple[Method, ...]
) -> TextModel | None:
    """The same text model where it stayed frozen, if this one does, too."""
    for model in beside if trains == ("locked",) else ():
        other = model.student.text_model
        if is_tuned(model.artifact.weights):
            continue
        if (
            model.artifact.recipe.text_model.trains == ("locked",)
            and other.source.revision == source.revision
        ):
            return other
    return None


def _same_model(base: BaseModel, override: str | None, *, role: str) -> ResolvedModel:
    local = base.revision.startswith("sha256:")
    if local and override is None and not Path(base.repo).is_dir():
        raise ModelError(
            f"{base.repo}: the {role} of this artifact is not there any more; give its folder: {role}=..."
        )
    found = resolve_model(ModelRef(repo=override or base.repo, revision=None if local else base.revision))
    if found.revision != base.revision:
        raise ModelError(
            f"{found.repo}: the adapter was trained on {role} {base.repo} at {base.revision}, this is "
            f"{found.revision}; an adapter fits only the weights that it was trained on"
        )
    return found


LEAST_CERTAINTY = 0.8

"""Below it a text belongs to no language."""


def detect(texts: Sequence[str], recipes: Sequence[LanguageRecipe]) -> list[str]:
    """Codes of the languages that texts are in.

    A language is left out when most letters of the text are of scripts that its own name and examples do not
    use; where a recipe lists several scripts it never is. If more than one language is left, py3langid
    decides between them.

    Args:
        texts: none empty.
        recipes: of the languages that come into question.

    Raises:
        DataError: a text fits none of them, or more than one almost as well.
        ModelError: py3langid is needed and not installed, or does not know one of the languages.
    """
    alphabets = {recipe.code: _alphabet(recipe) for recipe in recipes}
    return [_language(row, text, alphabets) for row, text in enumerate(texts)]


def _language(row: int, text: str, alphabets: dict[str, frozenset[str] | None]) -> str:
    script = most_common_script(text)
    left = [code for code, own in alphabets.items() if script and (own is None or script in own)]
    if len(left) == 1:
        return left[0]
    code, certainty = _identify(text, frozenset(left)) if left else ("", 0.0)
    if certainty < LEAST_CERTAINTY:
        shown = text if len(text) <= 30 else text[:29] + "…"
        raise DataError(
            f"text {row} ({shown!r}): cannot tell which of {', '.join(alphabets)} it is in; say its language"
        )
    return code


def most_common_script(text: str) -> str:
    """The script of most letters as Unicode's names begin (`LATIN`, `CJK`); empty without a letter."""
    counts = Counter(_script(letter) for letter in text)
    counts.pop("", None)
    return max(counts, key=counts.__getitem__, default="")


def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "").removeprefix("FULLWIDTH ").partition(" ")[0]


def _alphabet(recipe: LanguageRecipe) -> frozenset[str] | None:
    """Scripts of a language's own words in its recipe; None where it is written in several."""
    if len(recipe.scripts) > 1:
        return None
    return frozenset(
        _script(letter) for text in (recipe.native_name, *recipe.examples) for letter in text
    ) - {""}


def _identify(text: str, codes: frozenset[str]) -> tuple[str, float]:
    code, certainty = _identifier(codes).classify(text)
    return str(code), float(certainty)


@functools.cache
def _identifier(codes: frozenset[str]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ModelError(
            "telling languages of one script apart needs py3langid: pip install 'langadapt[languages]', or "
            "say the language"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := sorted(codes - set(identifier.labels)):
        raise ModelError(f"py3langid does not know {', '.join(unknown)}; say the language of these texts")
    identifier.set_languages(sorted(codes))
    return identifier
