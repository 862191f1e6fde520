"""What an artifact says about a finished run beside its weights."""

import torch

from langadapt.data.parallel import ParallelSentences
from langadapt.models import ResolvedModel, Student
from langadapt.models.provenance import BaseModel, DataSource, Samples, data_source, sample_texts
from langadapt.models.trained import round_to_stored
from langadapt.recipes import LanguageRecipe, ModelRef, ParallelRecipe
from langadapt.recipes.find import Found


def base_model(source: ResolvedModel, ref: ModelRef) -> BaseModel:
    """A base model as it was found, with the licence that the recipe states."""
    return BaseModel(
        repo=source.repo, revision=source.revision, licence=ref.licence, licence_source=ref.licence_source
    )


def parallel_source(found: Found[ParallelRecipe], corpus: ParallelSentences) -> DataSource:
    """A parallel corpus as it was read, with what its recipe states."""
    return data_source(
        found.recipe,
        found.recipe.source,
        kind="parallel",
        language=corpus.language,
        rows=len(corpus.english),
        blank_rows=corpus.blank_rows,
        fingerprint=corpus.fingerprint,
    )


def finished_samples(student: Student, recipe: LanguageRecipe) -> Samples:
    """What the student says at the end, with its weights as they are stored, on the CPU and in float32.

    The student stays there and keeps the rounded weights.
    """
    round_to_stored(student.text_model, student.trains)
    with torch.no_grad():
        for value in student.adapter.state_dict().values():
            value.copy_(value.half() if value.is_floating_point() else value)
    texts = sample_texts(recipe)
    return Samples(texts=texts, embeddings=student.to("cpu").encode(texts))
