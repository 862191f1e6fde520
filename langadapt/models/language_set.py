"""Several languages over one teacher, and over one text model where it stayed frozen."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from langadapt.data.tokens import require_text
from langadapt.errors import ModelError
from langadapt.models.language_model import LanguageModel, detect, load_beside
from langadapt.models.teacher import Teacher


class LanguageSet:
    """Models of several languages in one space; the language is said per call, or told from the text.

    Args:
        models: at least one, each of another language, all of one teacher.

    Raises:
        ModelError: two of one language, or of different teachers.
    """

    def __init__(self, *, models: Sequence[LanguageModel]) -> None:
        self.models: dict[str, LanguageModel] = {}
        for model in models:
            code = model.artifact.recipe.code
            if code in self.models:
                raise ModelError(f"two models of the language {code}; a set has one of each")
            if model.artifact.teacher.revision != models[0].artifact.teacher.revision:
                raise ModelError(
                    f"{code}: its teacher is {model.teacher.source.label}, that of "
                    f"{models[0].artifact.recipe.code} is {models[0].teacher.source.label}; a set has one "
                    "space and so one teacher"
                )
            self.models[code] = model
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
        """Encodes texts.

        Args:
            texts: B texts, none empty.
            language: code of a loaded language; None tells it from each text (see `models/detection.py`).

        Returns:
            `[B, D]` float32 unit rows on the CPU, in the order of the texts.

        Raises:
            DataError: an empty text, with its row number, or one whose language cannot be told.
            ModelError: no such language in the set.
        """
        if language is not None:
            return self._model(language).encode_text(texts)
        codes = self.detect(texts)
        out = torch.zeros(len(texts), self.dim)
        for code in dict.fromkeys(codes):
            rows = [row for row, own in enumerate(codes) if own == code]
            out[rows] = self.models[code].encode_text([texts[row] for row in rows])
        return out

    def encode_images(self, images: Sequence[Image | str | Path], *, batch_size: int = 64) -> Tensor:
        """Encodes images: the same rows for every language. See `LanguageModel.encode_images`."""
        return self.models[self.languages[0]].encode_images(images, batch_size=batch_size)

    def detect(self, texts: Sequence[str]) -> list[str]:
        """The language of each text, of those in the set.

        Raises:
            DataError: an empty text, or one whose language cannot be told.
        """
        require_text(texts)
        if len(self.models) == 1:
            return [self.languages[0]] * len(texts)
        return detect(texts, [model.artifact.recipe for model in self.models.values()])

    def _model(self, language: str) -> LanguageModel:
        if language not in self.models:
            raise ModelError(f"no model of '{language}' in this set; it has {', '.join(self.models)}")
        return self.models[language]


def load_set(
    paths_or_repos: Sequence[str | Path], *, device: str | torch.device | None = None
) -> LanguageSet:
    """Loads several artifacts of one teacher as one set.

    The teacher is held once. So is a text model that stayed frozen in several of them; where something of it
    trained, the language brings its own.

    Args:
        paths_or_repos: folders of artifacts, or `org/name` on the Hub.
        device: where to run; the CPU unless said otherwise.

    Raises:
        ModelError: what `load` raises, two models of one language, or different teachers.

    Example:
        `langadapt.load_set(["runs/zh", "runs/de"]).encode_text(["ein roter Hund"], language="de")`
    """
    models: list[LanguageModel] = []
    for path in paths_or_repos:
        models.append(load_beside(path, models, device=device))
    return LanguageSet(models=models)
