"""Score a student on retrieval sets, beside the teacher on English, translated and raw captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import Report, counted
from langadapt.evaluation.cards import ScoreCard
from langadapt.metrics.retrieval import RetrievalScores, retrieval_scores
from langadapt.metrics.signature import Signature
from langadapt.metrics.translation import translation_scores
from langadapt.models import LanguageModel
from langadapt.models.caches import ImageProgress, stored_images
from langadapt.models.load import precision
from langadapt.models.translator import Translator


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A score card and the embeddings behind it: `text [T, D]` of the student, `gallery [I, D]`."""

    card: ScoreCard
    text: Tensor
    gallery: Tensor


def evaluate_retrieval(
    retrieval: RetrievalSet,
    model: LanguageModel,
    *,
    progress: ImageProgress | None = None,
    translator: Translator | None = None,
) -> Evaluation:
    """Score an adapted language model on a retrieval set.

    The student's row stands beside the ceiling (teacher on English captions of the same images, where the
    set has them) and the floor (teacher on the raw captions). In an image-free set the teacher's embeddings
    of the English sides take the images' part, and there is no ceiling.

    A translator into English gives another baseline: translate, then ask the teacher.

    Raises:
        DataError: an image cannot be read.
    """
    teacher = model.teacher
    if retrieval.images is None:
        assert retrieval.english_gallery is not None
        gallery = teacher.text.embed(retrieval.english_gallery)
    else:
        gallery = stored_images(teacher, retrieval.images, progress=progress)
    own = torch.tensor(retrieval.image_of_text)
    text = model.encode_text(list(retrieval.texts))

    def scores(
        embedded: Tensor, name: str, *, image_of_text: Tensor = own, language: str = retrieval.language
    ) -> RetrievalScores:
        signature = Signature(
            benchmark=retrieval.name if retrieval.images is not None else f"{retrieval.name}-text",
            images=len(gallery),
            captions=len(embedded),
            which=retrieval.which_captions,
            language=language,
            text=name,
            image=teacher.source.label,
            precision=precision(teacher.device),
            contaminated=model.artifact.contaminated if name == model.label else "",
        )
        return retrieval_scores(embedded, gallery, image_of_text, signature=str(signature))

    ceiling = None
    if retrieval.images is not None and retrieval.ceiling_texts is not None:
        images = torch.tensor(retrieval.ceiling_image_of_text)
        english = teacher.text.embed(retrieval.ceiling_texts)
        ceiling = scores(english, teacher.source.label, image_of_text=images, language="en")
    translated, translation = None, None
    if translator is not None:
        texts = [text or "." for text in translator.translate(retrieval.texts)]  # a blank one says nothing
        translated = scores(teacher.text.embed(texts), f"{teacher.source.label}+{translator.label}")
        if retrieval.english is not None:
            translation = translation_scores(texts, retrieval.english, language="en")
    card = ScoreCard(
        name=retrieval.name,
        language=retrieval.language,
        student=scores(text, model.label),
        ceiling=ceiling,
        floor=scores(teacher.text.embed(retrieval.texts), teacher.source.label),
        images=len(gallery),
        captions=len(text),
        image_free=retrieval.images is None,
        translated=translated,
        translation=translation,
    )
    return Evaluation(card=card, text=text, gallery=gallery)


def evaluate_sets(
    sets: Sequence[RetrievalSet],
    model: LanguageModel,
    *,
    report: Report,
    translator: Translator | None = None,
) -> list[Evaluation]:
    """Score a model on several sets; `report` is told how many images of each are embedded."""
    return [
        evaluate_retrieval(
            item, model, progress=counted(report, f"images of {item.name}"), translator=translator
        )
        for item in sets
    ]


def best_images(evaluation: Evaluation, rows: Sequence[int], *, count: int) -> list[list[int]]:
    """Return for some texts the `count` best rows of the gallery, best first."""
    similarity = evaluation.text[list(rows)] @ evaluation.gallery.T
    indices: list[list[int]] = similarity.topk(min(count, similarity.shape[1]), dim=1).indices.tolist()
    return indices
