"""The commands as functions: train, score, compare and publish from Python."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langadapt.cleaning.own import prepare_sentences
from langadapt.data.own import own_sentences
from langadapt.data.retrieval import RetrievalSet, load_retrieval, own_captions
from langadapt.errors import DataError, Progress, RecipeError
from langadapt.evaluation.plots import save_curve
from langadapt.evaluation.retrieval import ScoreCard, evaluate_retrieval, keep_scores
from langadapt.files.atomic import removed_if_refused
from langadapt.hub.stage import Publication, StageOptions
from langadapt.hub.stage import publish as publish_run
from langadapt.models.artifact import FACTS, SCORES
from langadapt.models.language_model import LanguageModel, load
from langadapt.recipes.data import RetrievalRecipe
from langadapt.recipes.find import RecipeFile, data_recipe, find_language, override
from langadapt.recipes.language import LanguageRecipe
from langadapt.training.distill import distill as distill_run
from langadapt.training.run import RunOptions


def distill(
    language: str | RecipeFile[LanguageRecipe],
    out: Path | str | None = None,
    *,
    data: Sequence[Path | str] = (),
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
) -> LanguageModel:
    """Train an adapter, as `langadapt distill`, and load it.

    Args:
        language: name of a shipped recipe (`sw`), path of your own (`my/sw.yaml`), or a recipe file.
        out: run folder; None is `runs/NAME`. A finished run of the same recipe and data is loaded.
        data: your own sentences instead of the recipe's: tables, or the English and the translated file.
        columns: which of their columns hold `english` and `target`; None guesses.
        settings: values of the recipe by dotted key: `{"distill.epochs": 3}`.
        options: device, caches, `overwrite`.

    Raises:
        LangadaptError: what the command refuses.

    Examples:
        >>> model = langadapt.distill(recipe, folder / "run", data=[table], settings=fast)
        >>> tuple(model.encode_text(["gato rojo"]).shape)
        (1, 24)
    """
    found = find_language(language) if isinstance(language, str) else language
    pairs = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    found, folder = override(found, pairs), Path(out or Path("runs") / found.path.stem)
    options = options or RunOptions(reuse_finished=not data)
    with removed_if_refused(folder / "data", unless=folder / "log.jsonl"):
        if data:
            if (folder / FACTS).is_file() and not options.overwrite:
                raise DataError(f"{folder} holds a finished run; choose another folder, or overwrite")
            corpus = own_sentences([Path(path) for path in data], found.recipe, columns)
            more = {"report": _silent, "overwrite": options.overwrite}
            found = prepare_sentences(corpus, found, folder / "data", **more).language  # type: ignore[arg-type]
        distill_run(found, folder, report=_silent, options=options)
    save_curve(folder)
    return load(folder)


def evaluate(
    model: LanguageModel | Path | str,
    on: str | RetrievalSet | None = None,
    *,
    captions: Path | str | None = None,
    images: Path | str | None = None,
    image_free: bool = False,
    columns: Mapping[str, str] | None = None,
) -> list[ScoreCard]:
    """Score a model on retrieval, as `langadapt eval`; a run folder keeps the cards in its scores.json.

    Args:
        model: a loaded one, a run folder, or `org/name` on the Hub.
        on: a test set or the name of its recipe; None takes all of the model's own recipe.
        captions: your own table instead, of captions with image files, or, `image_free`, with English sides.
        images: folder of those images; None is the table's.
        columns: which columns hold `image`, `caption` and `english`; None guesses.

    Raises:
        LangadaptError: what the command refuses.

    Examples:
        >>> card, = langadapt.evaluate(model, captions=table, image_free=True, columns=sides)
        >>> 0 <= card.student.mr6 <= 100
        True
    """
    loaded = model if isinstance(model, LanguageModel) else load(model)
    recipe = loaded.artifact.recipe
    if captions is not None and on is None:
        place = None if images is None else Path(images)
        sets = [own_captions(recipe, Path(captions), place, columns, image_free=image_free)]
    elif captions is None:
        named = recipe.evaluate if on is None else (on,)
        sets = [
            item if isinstance(item, RetrievalSet) else load_retrieval(data_recipe(RetrievalRecipe, item))
            for item in named
        ]
    else:
        raise RecipeError("give one of `on` and `captions`")
    cards = [evaluate_retrieval(item, loaded).card for item in sets]
    if not isinstance(model, LanguageModel) and (Path(model) / FACTS).is_file():
        keep_scores(Path(model) / SCORES, cards, report=_silent)
    return cards


def publish(
    run: Path | str,
    repo: str,
    *,
    private: bool = False,
    permission: str | None = None,
    local_base_models: bool = False,
    send: bool = True,
) -> Publication:
    """Publish a scored run on the Hub, as `langadapt publish`; with `send` False stage and check it only.

    Raises:
        PublishError: what the command refuses.
    """
    options = StageOptions(repo=repo, permission=permission, local_base_models=local_base_models)
    return publish_run(Path(run), options=options, out=None, private=private, send=send)


def _silent(progress: Progress) -> None:
    """Nobody watches."""
