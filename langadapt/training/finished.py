"""What an artifact says about a finished run beside its weights."""

from pathlib import Path

import torch

from langadapt.data.pairs import Pairs, pairs_recipe
from langadapt.data.parallel import ParallelSentences
from langadapt.models import ResolvedModel, Student
from langadapt.models.provenance import BaseModel, DataSource, Samples, data_source, sample_texts
from langadapt.models.trained import round_to_stored
from langadapt.recipes import DataCard, LanguageRecipe, ModelRef, ParallelRecipe, TableFiles
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
        contamination=corpus.contamination,
    )


def pairs_source(name: str, pairs: Pairs, *, language: str, contamination: str) -> DataSource:
    """Pairs as they were read; of a plain table nobody has stated a licence."""
    found = pairs_recipe(name)
    file = Path(name).name
    card = DataCard(name="own-pairs", title=file, licence="unknown") if found is None else found.recipe
    source = TableFiles(kind="files", paths=(file,)) if found is None else found.recipe.source
    return data_source(
        card,
        source,
        kind="pairs",
        language=language,
        rows=len(pairs.texts),
        blank_rows=0,
        fingerprint=pairs.fingerprint,
        contamination=contamination,
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
    return Samples(texts=texts, embeddings=student.to("cpu").encode(texts, exact=True))
