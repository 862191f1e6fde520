"""A dual encoder as transformers itself saves one, where all that was trained has a place in it."""

from pathlib import Path
from typing import Any

from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

from langadapt.errors import ModelError
from langadapt.export.sentence_transformers import Probes, check_rows, readme
from langadapt.files.atomic import whole_folder, write_text
from langadapt.models import LanguageModel, resolve_model
from langadapt.models.teacher import load_dual_encoder
from langadapt.models.towers import DualEncoder, quiet_transformers
from langadapt.nn.peft_modules import added_weights
from langadapt.recipes import ModelRef

TOLERANCE = 1e-5


def export_transformers(
    model: LanguageModel, out: Path, *, probes: Probes, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder for `AutoModel.from_pretrained`; it must embed the probes as the model does.

    Return `agreement`: what was compared and how far it differed at most.

    Raises:
        ModelError: a student, modules that training added, or a pooling that the format has no place for.
    """
    module: Any = model.teacher.module
    if model.student is not None:
        raise _no_place("the adapter of a distilled student")
    if added_weights(module):
        raise _no_place("adapters and layers that training added")
    if isinstance(module, DualEncoder):
        if module.pooling != "pooler":
            raise _no_place(f"`{module.pooling}` pooling of texts (its own takes the pooler alone)")
        module = _transformers_own(module)
    with whole_folder(out, overwrite=overwrite) as folder:
        with quiet_transformers():
            module.save_pretrained(folder)
            processors = model.teacher.image_processor, model.teacher.tokenizer
            if isinstance(module, VisionTextDualEncoderModel):
                VisionTextDualEncoderProcessor(*processors).save_pretrained(folder)
            for processor in processors:
                processor.save_pretrained(folder)
        found = load_dual_encoder(resolve_model(ModelRef(repo=str(folder))))
        rows = found.text.embed(probes.texts, exact=True), found.embed_images(probes.images)
        what = "transformers' own dual encoder"
        agreement = check_rows(model, probes, *rows, tolerance=TOLERANCE, what=what)
        write_text(folder / "README.md", readme(model, "transformers"))
    return {"agreement": agreement}


def _no_place(what: str) -> ModelError:
    return ModelError(
        f"transformers' own format has no place for {what}; take --format sentence-transformers"
    )


def _transformers_own(module: DualEncoder) -> VisionTextDualEncoderModel:
    vision: Any = module.vision_model
    widths = module.visual_projection.in_features, module.text_projection.in_features
    for config, width in zip((vision.config, module.config), widths, strict=True):
        config.hidden_size = width  # a MobileNet's does not say how wide its rows are
    own: Any = VisionTextDualEncoderModel(vision_model=vision, text_model=module.text_model)
    own.config.projection_dim = own.projection_dim = module.visual_projection.out_features
    own.visual_projection, own.text_projection = module.visual_projection, module.text_projection
    return own.eval()
