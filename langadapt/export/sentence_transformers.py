"""Folders that `SentenceTransformer(folder, trust_remote_code=True)` loads without langadapt.

What every exported folder has stands here, too: it embeds as the model does, and says how it is used.
"""

import ast
import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from langadapt import __version__
from langadapt.errors import ModelError
from langadapt.export.module import CONFIG, WEIGHTS, LanguageAndImages
from langadapt.files.atomic import whole_folder, write_text
from langadapt.files.templates import templates
from langadapt.models import LanguageModel
from langadapt.models.load import ARTIFACT, ResolvedModel, load_config
from langadapt.models.towers import quiet_transformers
from langadapt.models.tuning import STAGES, has_stage

MODULE_FILE, MODULE_CLASS = "langadapt_module.py", "LanguageAndImages"
_PARTS = (
    "files/json.py",
    "nn/adapter.py",
    "nn/peft_modules.py",
    "data/pixels.py",
    "models/towers.py",
    "models/vocabulary.py",
    "export/module.py",
)
_HEAD = f'''"""Texts of a language and images in one space, for sentence-transformers, without langadapt.

Made of the source files of langadapt {__version__}, in this order: {", ".join(_PARTS)}.
Licence: Apache-2.0.
"""

from types import SimpleNamespace as AdapterSpec  # the adapter's shape, as langadapt_module.json has it
'''
MODULE_FILES = ("config.json", "modules.json", "config_sentence_transformers.json", CONFIG, MODULE_FILE)
"""What `write_module_files` adds to an artifact."""
FORMAT_VERSION = 3
TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Texts of the language, none empty, and RGB images."""

    texts: list[str]
    images: list[Image.Image]


def check_rows(
    model: LanguageModel, probes: Probes, texts: Tensor, images: Tensor, *, tolerance: float, what: str
) -> dict[str, Any]:
    """Compare an export's unit rows of the probes with the model's; refuse differences above the tolerance.

    `texts` and `images` are the export's rows `[N, D]` float32 of N texts and of the images, or several such
    sets one after another; `what` names the export. Return the largest differences and the numbers.
    """
    facts: dict[str, Any] = {"texts": len(probes.texts), "images": len(probes.images)}
    expected = model.encode_text(probes.texts, exact=True), model.encode_images(probes.images)
    for kind, rows, wanted in zip(("text", "image"), (texts, images), expected, strict=True):
        found = float((rows.view(-1, *wanted.shape) - wanted).abs().max())
        if not found <= tolerance:
            far = f"values differ by up to {found:.1e}, at most {tolerance:.0e} is allowed"
            raise ModelError(f"{what} embeds {kind}s otherwise than the model: {far}; nothing was written")
        facts[f"{kind}_difference"] = found
    return facts


def check_tokenizer(folder: Path, module: Any, texts: list[str], **options: str) -> None:
    """Read a module's tokenizer that was just written; refuse it if it gives some texts other ids."""
    again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    cut = {"truncation": True, "max_length": module.max_seq_length}
    if again(texts, **cut)["input_ids"] != module.tokenizer(texts, **cut)["input_ids"]:
        kind = type(again).__name__
        raise ModelError(f"the {kind}, read from its files, cuts texts otherwise; nothing was written")


def default_probes(model: LanguageModel, *, texts: list[str] | None = None) -> Probes:
    """The given texts, else those that the artifact keeps, and a long one; and four pictures of noise."""
    artifact = model.artifact
    kept = artifact.samples.texts if artifact.samples else artifact.recipe.examples
    own = texts or [*kept, artifact.recipe.native_name]
    noise = np.random.default_rng(0)
    shapes = [(48, 64, 3), (224, 224, 3), (500, 300, 3), (512, 37, 3)]
    images = [Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    return Probes(texts=[*own, " ".join(own[:40])], images=images)


def readme(model: LanguageModel, kind: str, **facts: Any) -> str:
    """README.md of an exported folder, by the template of its kind."""
    recipe = model.artifact.recipe
    example = (recipe.examples or (recipe.native_name,))[0].replace("\\", "").replace('"', "")
    template = templates("langadapt.export", escape_html=False).get_template(f"{kind}.md")
    return template.render(model=model, recipe=recipe, example=example, **facts)


def export_sentence_transformers(
    model: LanguageModel, out: Path, *, probes: Probes, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder that needs no other: both base models, the adapter, and the code that joins them.

    `out` appears when it is whole; `overwrite` replaces a folder that is not empty. The export must embed the
    probes as the model does. Return `agreement`: what was compared and how far it differed at most.
    """
    if not has_module(model):
        why = "it stands on an aligned run, or its texts have one length"
        raise ModelError(
            f"{model.teacher.source.repo}: no module joins it ({why}); take --format transformers"
        )
    module = merged_module(model)
    found = check_module(model, module, probes)
    with whole_folder(out, overwrite=overwrite) as folder:
        with quiet_transformers():
            module.save(str(folder))
            options = module.config_dict["tokenizer_options"]
            check_tokenizer(folder / module.text_place, module, probes.texts, **options)
        _write_frame(folder)
        write_text(folder / "README.md", readme(model, "sentence_transformers"))
    return {"agreement": found}


def check_module(model: LanguageModel, module: LanguageAndImages, probes: Probes) -> dict[str, Any]:
    """Compare a module's rows of the probes with the model's, up to 1e-5; see `check_rows`."""
    with torch.inference_mode():
        texts, images = (
            module({k: v.to(model.teacher.device) for k, v in module.preprocess(items).items()})[
                "sentence_embedding"
            ].cpu()
            for items in (probes.texts, probes.images)
        )
    what = "the sentence-transformers module"
    return check_rows(model, probes, texts, images, tolerance=TOLERANCE, what=what)


def write_module_files(folder: Path, model: LanguageModel) -> None:
    """Add to an artifact's folder what sentence-transformers needs; it fetches the base models itself."""
    config = module_config(model)
    config["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    _write_frame(folder)


def has_module(model: LanguageModel) -> bool:
    """Whether the module can hold a model: unless it stands on an aligned run, or has texts of one length."""
    is_aligned = (model.teacher.source.path / ARTIFACT).is_file()
    return not is_aligned and (model.student is not None or model.teacher.fixed_tokens is None)


def merged_module(model: LanguageModel) -> LanguageAndImages:
    """The module of an export with the trained weights in their places."""
    return LanguageAndImages(
        config=module_config(model),
        weights=model.artifact.weights,
        text_folder=model.text_source.path,
        image_folder=model.teacher.source.path,
        vocabulary=model.artifact.vocabulary,
    ).to(model.teacher.device)


def module_config(model: LanguageModel) -> dict[str, Any]:
    """What `langadapt_module.json` says of an artifact whose base models stay where they are."""
    recipe, vocabulary = model.artifact.recipe, model.artifact.vocabulary
    language, whole = recipe.text_model.tokenizer_language, load_config(model.text_source)
    align, text = recipe.align, model.teacher if model.student is None else model.student.text_model
    names = [name for name in STAGES if has_stage(model.artifact.weights, name)]
    return {
        "format_version": FORMAT_VERSION,
        "language": recipe.code,
        "dim": model.dim,
        "adapter": None if model.student is None else recipe.adapter.settled().model_dump(mode="json"),
        "pooling": None if align is None else align.pooling,
        "text_model": {
            **asdict(model.artifact.text_model),
            # The encoder of an encoder-decoder does not need the decoder.
            "unused": ["decoder"] if getattr(whole, "is_encoder_decoder", False) else [],
            "pooler": align is not None and align.pooling == "pooler",
        },
        "image_model": {
            **asdict(model.artifact.teacher),
            "unused": _unused(model),
            "pooler": align is not None,
        },
        "prefix": text.prefix,
        "tokenizer_options": {"src_lang": language} if language else {},
        "max_tokens": text.max_tokens,
        "stages": names if align else ["", *names],
        "vocabulary": None if vocabulary is None else vocabulary.digest,
    }


def _write_frame(folder: Path) -> None:
    place = {"idx": 0, "name": "0", "path": "", "type": f"{Path(MODULE_FILE).stem}.{MODULE_CLASS}"}
    frame = {"model_type": "SentenceTransformer", "prompts": {}, "similarity_fn_name": "cosine"}
    module = Path(MODULE_FILE).stem
    classes = {"AutoConfig": f"{module}.{MODULE_CLASS}Config", "AutoModel": f"{module}.{MODULE_CLASS}"}
    config = {"model_type": "langadapt", "architectures": [MODULE_CLASS], "auto_map": classes}
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "modules.json", json.dumps([place], indent=2) + "\n")
    write_text(folder / "config_sentence_transformers.json", json.dumps(frame, indent=2) + "\n")
    write_text(folder / MODULE_FILE, "\n".join([_HEAD, *(source_text(name) for name in _PARTS)]))


def _unused(model: LanguageModel) -> list[str]:
    """Parts of the image model that the module has no use for."""
    if model.artifact.recipe.align is not None:
        return _beside_vision(model.teacher.source)
    return [] if model.student is None else _unused_by_images(model)


@torch.inference_mode()
def _unused_by_images(model: LanguageModel) -> list[str]:
    """Parts of the image-text model that no image runs through: its text tower."""
    module, ran = model.teacher.module, set[int]()
    hooks = [
        part.register_forward_pre_hook(lambda part, given: ran.update(id(p) for p in part.parameters(False)))
        for part in module.modules()
    ]
    model.teacher.embed_images([Image.new("RGB", (64, 64))])
    for hook in hooks:
        hook.remove()
    weights = {name: {id(p) for p in part.parameters()} for name, part in module.named_children()}
    return [name for name, own in weights.items() if own and not own & ran]


def _beside_vision(source: ResolvedModel) -> list[str]:
    """Parts of an image-text model that stand beside its vision tower; of a vision encoder none."""
    with torch.device("meta"):
        parts = [name for name, _ in AutoModel.from_config(load_config(source)).named_children()]
    return [name for name in parts if name != "vision_model"] if "vision_model" in parts else []


def source_text(name: str) -> str:
    """A source file without its docstring and without imports of the files that stand before it."""
    text = files("langadapt").joinpath(name).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    docstring, *rest = tree.body
    imports = [node for node in rest if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if (node.module or "").startswith("langadapt")]
    for node in (docstring, *own):
        assert node.end_lineno is not None
        for number in range(node.lineno - 1, node.end_lineno):
            lines[number] = ""
    return f"# ---- {name}\n" + "".join(lines)
