"""Stage align: an image encoder and a text encoder learn a shared space from pairs alone."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import VisionTextDualEncoderProcessor

from langadapt.data.pairs import join_pairs, load_pairs
from langadapt.errors import Progress, RecipeError, Report, TrainingError
from langadapt.files.atomic import write_text
from langadapt.files.store import fingerprint
from langadapt.models import resolve_model
from langadapt.models.artifact import environment_facts
from langadapt.models.device import best_device, device_name
from langadapt.models.dual_encoder import DualEncoder, new_dual_encoder
from langadapt.models.trainable import make_trainable, merge_lora
from langadapt.models.tuning import ContrastModel
from langadapt.nn.losses import Temperature
from langadapt.recipes import AlignStage, Method, ModelRef
from langadapt.training.contrast import train_contrast
from langadapt.training.contrast_data import prepare_pairs
from langadapt.training.distill import RunOptions
from langadapt.training.run import RunFolder, share_of_work, silent

FACTS = "align.json"


def align(
    image_model: ModelRef,
    text_model: ModelRef,
    out: Path,
    *,
    stage: AlignStage,
    report: Report,
    options: RunOptions | None = None,
    images: Path | None = None,
) -> dict[str, Any]:
    """Trains a new dual encoder and saves it as transformers does; it can then be a recipe's teacher.

    Args:
        image_model: a vision encoder.
        text_model: a text encoder.
        out: folder of the run, and of the model.
        stage: how; its paths as seen from the current folder.
        report: told what is done.
        options: device, overwrite, how often a checkpoint is written.
        images: folder at which the image paths of tables start.

    Returns:
        What `align.json` holds: models, pairs, methods, held-out recall, counts, seconds.

    Raises:
        LangadaptError: bad data or models, methods that fit no tower, a folder that holds another run, or
            nothing learned.
    """
    options = options or RunOptions()
    started = time.perf_counter()
    accelerator = share_of_work(options.device or best_device(), stage.batch_size)
    if not accelerator.is_main_process:
        report = silent
    sources = (resolve_model(image_model), resolve_model(text_model))
    pairs = join_pairs([load_pairs(name, images=images) for name in stage.pairs])
    key = fingerprint(stage.model_dump_json(), *(item.revision for item in sources), pairs.fingerprint)
    run = RunFolder(folder=out, key=key, started=started)
    if accelerator.is_main_process:
        if (out / FACTS).is_file() and not options.overwrite:
            raise TrainingError(f"{out} holds a finished model; choose another --out, or --overwrite")
        run.claim(overwrite=options.overwrite)
    accelerator.wait_for_everyone()
    made = new_dual_encoder(
        *sources, dim=stage.dim, max_tokens=stage.max_tokens, seed=stage.seed, device=accelerator.device
    )
    locked = set(stage.image) <= {"locked", "projection"}
    text = make_trainable(made.text_tower(), _methods(stage.text), seed=stage.seed)
    image = make_trainable(made.image_tower(), _methods(stage.image), seed=stage.seed + 1)
    module: Any = made.teacher.module
    model = ContrastModel(
        text=text,
        image=image,
        temperature=Temperature(start=stage.temperature, loss=stage.loss).to(accelerator.device),
        chunk_size=stage.chunk_size,
        image_head=module.visual_projection if locked else None,
    )
    counts = model.parameter_counts()
    share = 100 * counts["trained"] / counts["total"]
    report(Progress(stage=f"trains {counts['trained']:,} weights, {share:.2f} % of both towers"))
    data = prepare_pairs(
        pairs,
        stage=stage,
        teacher=made.features if locked else made.teacher,
        locked=locked,
        tokenize=made.teacher.tokenize,
        fraction=1.0,
        report=report,
    )
    facts = train_contrast(
        model,
        data,
        run,
        distill_weight=0.0,
        accelerator=accelerator,
        checkpoint_seconds=options.checkpoint_seconds,
        report=report,
    )
    if facts["best_step"] == 0:
        raise TrainingError(f"{out}: no step was better than new projections; give more pairs or epochs")
    said = {
        "image_model": {"repo": sources[0].repo, "revision": sources[0].revision},
        "text_model": {"repo": sources[1].repo, "revision": sources[1].revision},
        "stage": json.loads(stage.model_dump_json()),
        "pairs": {pairs.name: pairs.fingerprint},
        **facts,
        "rows": len(data.split.train),
        "images": len({*data.image_ids[data.split.train].tolist()}),
        "held_out_rows": len(data.split.held_out),
        "trained_parameters": counts["trained"],
        "trained_percent": round(share, 3),
        "environment": {**environment_facts(), "device": device_name(accelerator.device)},
    }
    if accelerator.is_main_process:
        _save(made, out, said)
        run.clean()
    accelerator.wait_for_everyone()
    return said


def _methods(chosen: tuple[Method, ...]) -> tuple[Method, ...]:
    """With the projection, which is new and always trains."""
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


def _save(made: DualEncoder, out: Path, facts: dict[str, Any]) -> None:
    """Writes the model beside its place and moves its files in; the facts come last."""
    merge_lora(made.teacher.module)
    part = out / ".model.part"
    shutil.rmtree(part, ignore_errors=True)
    made.teacher.module.save_pretrained(part)  # type: ignore[operator]
    processor = VisionTextDualEncoderProcessor(made.teacher.image_processor, made.teacher.tokenizer)
    processor.save_pretrained(part)
    for path in part.iterdir():
        path.chmod(0o644)
        path.replace(out / path.name)
    part.rmdir()
    write_text(out / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
