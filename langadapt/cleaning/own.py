"""A user's own sentences: cleaned, a test set held out, with the recipes that read them."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from langadapt.cleaning.build import PAIRS, BuildPlan, build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import test_captions
from langadapt.cleaning.rules import BuildReport
from langadapt.cleaning.words import main_script
from langadapt.data.parallel import distinct, parallel_rows
from langadapt.errors import DataError, Report
from langadapt.files.atomic import replacing, write_text
from langadapt.files.paths import real_path
from langadapt.recipes.authoring import UNDETERMINED_SCRIPT
from langadapt.recipes.data import CaptionColumns, ParallelRecipe, RetrievalRecipe
from langadapt.recipes.find import RecipeFile, data_recipe, with_absolute_paths
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.yaml import dump_recipe

_MOST_TESTS, _LEAST_TESTS = 1000, 100
"""A tenth of the sentences is held out: so many at most, and so many at least where a fifth gives them."""
_FEWEST_SENTENCES = 40
_SAMPLE_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class OwnSentences:
    """A language recipe that trains on a user's sentences and is scored on those held out."""

    language: RecipeFile[LanguageRecipe]
    report: BuildReport
    tests: int
    """Held-out sentences."""


def prepare_sentences(
    found: RecipeFile[ParallelRecipe],
    language: RecipeFile[LanguageRecipe],
    folder: Path,
    *,
    report: Report,
    overwrite: bool = False,
) -> OwnSentences:
    """Clean sentences, hold a test set out, and write both with their recipes into `folder`/NAME.

    The same sentences give the same bytes, so a stopped run goes on. A folder of other data is refused.
    """
    out = folder / found.recipe.name
    source = dump_recipe(found.recipe)
    for earlier in folder.glob("*/source.yaml"):
        if overwrite:
            shutil.rmtree(earlier.parent)
        elif earlier.parent != out or earlier.read_text(encoding="utf-8") != source:
            raise DataError(f"{folder} was made of other data; choose another --out, or --overwrite")
    recipe = with_absolute_paths(language)
    if recipe.scripts == (UNDETERMINED_SCRIPT,):
        sides = (row.values[1] for row in islice(parallel_rows(found), _SAMPLE_ROWS))
        script = main_script(text for text in sides if isinstance(text, str))
        recipe = recipe.model_copy(update={"scripts": (script,)})
    tests, missing = test_captions(language)
    write_text(out / "source.yaml", source)
    plan = BuildPlan(
        sources=[Source(found=found)],
        language=recipe.code,
        codes=(recipe.code, recipe.iso639_3),
        scripts=recipe.scripts,
        tests=tests or None,
        missing_tests=tuple(missing),
        workers=os.cpu_count() or 1,
    )
    built = build_parallel(plan, out, report)
    test = _hold_out(out)
    name = found.recipe.name
    card = {"title": found.recipe.title, "licence": found.recipe.licence, "language": recipe.code}
    test_set = RetrievalRecipe(
        name=f"{name}-test",
        **card,  # type: ignore[arg-type]
        captions=("test.parquet",),
        columns=CaptionColumns(caption="target", english="english"),
        expected_captions=test,
    )
    write_text(out / f"{name}-test.yaml", dump_recipe(test_set))
    paths = [str(real_path(out / file)) for file in (f"{name}.yaml", f"{name}-test.yaml")]
    distill = recipe.distill.model_copy(update={"data": (paths[0],)})
    own = recipe.model_copy(update={"distill": distill, "evaluate": (paths[1], *recipe.evaluate)})
    ready = RecipeFile(recipe=own, path=language.path, shipped=True)
    return OwnSentences(language=ready, report=built, tests=test)


def _hold_out(folder: Path) -> int:
    """Move rows, and what shares a side with them, from the built table to `test.parquet`; count them."""
    path = folder / PAIRS
    with pq.ParquetFile(path) as file:
        english, target = (distinct(_folded(file, side)) for side in ("english", "target"))
        count = len(english.first)
        if count < _FEWEST_SENTENCES:
            raise DataError(f"{folder}: {count} sentences are left, {_FEWEST_SENTENCES} are the least")
        tests = min(_MOST_TESTS, max(count // 10, min(_LEAST_TESTS, count // 5)))
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:tests].numpy()
        rows = english.first[np.sort(drawn)]
        shares = np.isin(english.index, english.index[rows]) | np.isin(target.index, target.index[rows])
        chosen = np.zeros(len(shares), np.bool_)
        chosen[rows] = True
        _write_rows(file, chosen, folder / "test.parquet")
        _write_rows(file, ~shares, path)
    built = data_recipe(ParallelRecipe, str(folder / f"{folder.name}.yaml"))
    left = built.recipe.model_copy(update={"expected_rows": int((~shares).sum())})
    write_text(built.path, dump_recipe(left))
    return tests


def _folded(file: pq.ParquetFile, side: str) -> Iterator[str]:
    for batch in file.iter_batches(columns=[side]):
        yield from (" ".join(text.casefold().split()) for text in batch.column(0).to_pylist())


def _write_rows(file: pq.ParquetFile, kept: NDArray[np.bool_], path: Path) -> None:
    first = 0
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
    ):
        for batch in file.iter_batches():
            writer.write_batch(batch.filter(pa.array(kept[first : first + len(batch)])))
            first += len(batch)
