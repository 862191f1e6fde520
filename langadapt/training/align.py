"""Stage align: an image encoder and a text encoder learn a shared space from pairs alone."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import VisionTextDualEncoderProcessor

from langadapt.data.pairs import join_pairs, load_pairs
from langadapt.errors import RecipeError, Report, TrainingError
from langadapt.files.atomic import leaves_no_trace, sync, write_text
from langadapt.files.json import read_json
from langadapt.files.store import fingerprint
from langadapt.models import resolve_model
from langadapt.models.artifact import environment_facts
from langadapt.models.teacher import DualEncoder, new_dual_encoder
from langadapt.models.trainable import make_trainable, merge_lora
from langadapt.recipes import AlignStage, Method, ModelRef
from langadapt.training.contrast import is_locked, prepare_pairs
from langadapt.training.run import RunOptions, open_run
from langadapt.training.tune import contrast_model, train_contrast

FACTS = "align.json"


@leaves_no_trace
def align(
    image_model: ModelRef,
    text_model: ModelRef,
    out: Path,
    *,
    stage: AlignStage,
    report: Report,
    options: RunOptions | None = None,
) -> dict[str, Any]:
    """Train a dual encoder and save it into `out` as transformers does; it can then be a recipe's teacher.

    Returns what `align.json` holds: models, pairs, methods, held-out recall, counts, seconds.

    Raises:
        LangadaptError: bad data or models, methods that fit no tower, another run in `out`, nothing learned.
    """
    run = open_run(out, batch_size=stage.batch_size, options=options, report=report, result=FACTS)
    sources = (resolve_model(image_model), resolve_model(text_model))
    pairs = join_pairs([load_pairs(name, images=run.options.images) for name in stage.pairs])
    key = fingerprint(stage.model_dump_json(), *(item.revision for item in sources), pairs.fingerprint)
    if not run.claim(key):
        found: dict[str, Any] = read_json(out / FACTS)
        return found
    device = run.accelerator.device
    locked, seed = is_locked(stage), stage.seed
    dual = new_dual_encoder(*sources, dim=stage.dim, max_tokens=stage.max_tokens, seed=seed, device=device)
    text = make_trainable(dual.text_tower(), _methods(stage.text), seed=seed)
    image = make_trainable(dual.image_tower(), _methods(stage.image), seed=seed + 1)
    module: Any = dual.teacher.module
    head = module.visual_projection if locked else None
    model = contrast_model(text, image, stage, device=device, head=head)
    data = prepare_pairs(
        pairs,
        stage=stage,
        teacher=dual.features if locked else dual.teacher,
        tokenize=dual.teacher.tokenize,
        report=run.report,
    )
    trained = train_contrast(model, data, run)
    if trained["best_step"] == 0:
        raise TrainingError(f"{out}: no step was better than new projections; give more pairs or epochs")
    facts = {
        "image_model": {"repo": sources[0].repo, "revision": sources[0].revision},
        "text_model": {"repo": sources[1].repo, "revision": sources[1].revision},
        "stage": json.loads(stage.model_dump_json()),
        "pairs": {pairs.name: pairs.fingerprint},
        **trained,
        "environment": environment_facts(device),
    }
    run.finish(lambda: _save(dual, out, facts))
    return facts


def _methods(chosen: tuple[Method, ...]) -> tuple[Method, ...]:
    """Add the projection, which is new and always trains."""
    for item in chosen:
        if item in ("adapters", "layer"):
            raise RecipeError(
                f"`{item}` adds modules, and transformers' own format, in which align saves, has no place "
                "for them; choose full, layer_norm, bitfit, projection, last, embeddings or lora"
            )
    if chosen == ("full",):
        return chosen
    kept = tuple(item for item in chosen if item not in ("locked", "projection"))
    return (*kept, "projection")


def _save(dual: DualEncoder, out: Path, facts: dict[str, Any]) -> None:
    """Write the model into a temporary folder, move its files in, then write the facts."""
    merge_lora(dual.teacher.module)
    part = out / ".model.part"
    shutil.rmtree(part, ignore_errors=True)
    dual.teacher.module.save_pretrained(part)  # type: ignore[operator]
    processor = VisionTextDualEncoderProcessor(dual.teacher.image_processor, dual.teacher.tokenizer)
    processor.save_pretrained(part)
    for path in part.iterdir():
        path.chmod(0o644)
        sync(path)
        path.replace(out / path.name)
    part.rmdir()
    write_text(out / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
