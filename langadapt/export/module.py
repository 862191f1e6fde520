"""The module that sentence-transformers loads: texts of the language and images into one space.

Exports carry the text of this file behind those of the adapter, the towers and the reader of images, so it
imports nothing else of langadapt.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, PretrainedConfig

from langadapt.data.pixels import read_image
from langadapt.files.json import read_json
from langadapt.models.towers import (
    MODEL_FILES,
    DualEncoder,
    Layers,
    image_rows,
    layer_states,
    read_module,
    unit_rows,
)
from langadapt.models.vocabulary import Vocabulary, merge_pieces, put_pieces
from langadapt.nn.adapter import Adapter, normed
from langadapt.nn.peft_modules import added_weights, put_changes

CONFIG, WEIGHTS, PIECES = "langadapt_module.json", "adapter.safetensors", "vocabulary.json"


class LanguageAndImagesConfig(PretrainedConfig):  # type: ignore[misc]
    """What `AutoConfig` reads of the export's config.json."""

    model_type = "langadapt"


class LanguageAndImages(nn.Module):
    """Text model, adapter and image tower behind the interface of a sentence-transformers input module.

    Args:
        config: what `langadapt_module.json` holds; without an adapter both encoders were aligned, without a
            pooling as well the image model embeds texts, too.
        weights: an artifact's: the adapter under `adapter.`, changes of the towers under
            `text_model.encoder.` and `image.`; those of later stages under `tune.` and `domain.`.
        text_folder, image_folder: files of the text model and of the image-text model.
        vocabulary: new pieces of the text model's tokenizer, where its files lack them.
    """

    save_in_root = True
    modalities = ("text", "image")
    config_class = LanguageAndImagesConfig

    def __init__(
        self,
        *,
        config: dict[str, Any],
        weights: dict[str, Tensor],
        text_folder: Path,
        image_folder: Path,
        vocabulary: Vocabulary | None,
    ) -> None:
        super().__init__()
        self.config_dict = config
        self.image_model = _base_model(image_folder, config["image_model"])
        self.is_one_model = config["adapter"] is None and config["pooling"] is None
        self.text_model = (
            self.image_model if self.is_one_model else _base_model(text_folder, config["text_model"])
        )
        self.tokenizer = AutoTokenizer.from_pretrained(
            text_folder, trust_remote_code=False, **config["tokenizer_options"]
        )
        self.image_processor = AutoImageProcessor.from_pretrained(
            image_folder, backend="pil", trust_remote_code=False
        )
        self.max_seq_length: int = config["max_tokens"]
        self.towers = self._joined(weights) if config["adapter"] is None else None
        if config["adapter"] is None:
            self.eval()
            return
        states = config["adapter"]["states"]
        self.layers: Layers = tuple(states) if isinstance(states, list) else states
        own = _part(weights, "adapter")
        spec: Any = SimpleNamespace(**config["adapter"])
        with torch.random.fork_rng(devices=[]):  # new layers draw weights, which the stored ones replace
            self.adapter = Adapter(
                spec=spec,
                input_dim=own["down.weight"].shape[1],
                target_dim=len(own["up.weight"]),
            )
        if vocabulary is not None:
            put_pieces(self.tokenizer, self.encoder, vocabulary)
        for value in self.adapter.parameters():
            value.requires_grad_(False).zero_()  # its weights are kept whole
        for stage in config["stages"]:
            head = f"{stage}.text." if stage else ""
            put_changes(self.encoder, _part(weights, f"{head}text_model.encoder"))
            put_changes(self.adapter, _part(weights, f"{head}adapter"))
            put_changes(self.image_model, _part(weights, f"{stage}.image" if stage else "image"))
        if vocabulary is not None:
            merge_pieces(self.text_model, self.encoder)
        self.eval()

    def _joined(self, weights: dict[str, Tensor]) -> Any:
        """Both encoders with all that training changed."""
        towers: Any = self.image_model if self.is_one_model else self._projected(weights)
        for stage in self.config_dict["stages"]:
            for side in (f"{stage}.text", f"{stage}.image") if stage else ("towers",):
                put_changes(towers, _part(weights, side))
        return towers

    def _projected(self, weights: dict[str, Tensor]) -> DualEncoder:
        """Both encoders with room for the projections that `align` made."""
        vision: Any = getattr(self.image_model, "vision_model", self.image_model)
        heads = ("visual_projection.weight", "text_projection.weight")
        widths = [next(v.shape[1] for k, v in weights.items() if k.endswith(head)) for head in heads]
        config = self.config_dict
        with torch.random.fork_rng(devices=[]):
            towers = DualEncoder(
                vision,
                self.encoder,
                widths=(widths[0], widths[1]),
                dim=config["dim"],
                pooling=config["pooling"],
            )
        for name in heads:
            towers.get_parameter(name).requires_grad_(False).zero_()  # kept whole
        return towers

    @property
    def text_place(self) -> str:
        """Folder of the text model in what `save` writes."""
        return "image_model" if self.is_one_model else "text_model"

    @property
    def image_tower(self) -> nn.Module:
        """What embeds images."""
        return self.towers or self.image_model

    @property
    def encoder(self) -> nn.Module:
        """The text model, or the encoder of an encoder-decoder."""
        whole: Any = self.text_model
        return whole.get_encoder() if whole.config.is_encoder_decoder else whole  # type: ignore[no-any-return]

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> "LanguageAndImages":
        """Load from a folder or a Hub repository; `kwargs` are sentence-transformers' own and unused."""
        hub = {"token": token, "cache_dir": cache_folder, "local_files_only": local_files_only}
        root = _Root(name=model_name_or_path, below=subfolder, options={**hub, "revision": revision})
        config = read_json(root.file(CONFIG))
        weights = root.file(WEIGHTS)
        if hashlib.sha256(weights.read_bytes()).hexdigest() != config["weights_sha256"]:
            raise ValueError(f"{model_name_or_path}: {WEIGHTS} is not the file that was written")
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_file(str(weights)).items()}
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise ValueError(f"{model_name_or_path}: {WEIGHTS} holds numbers that are not finite")
        return cls(
            config=config,
            weights=tensors,
            text_folder=root.base(config["text_model"], hub),
            image_folder=root.base(config["image_model"], hub),
            vocabulary=root.vocabulary(config["vocabulary"]),
        )

    @classmethod
    def from_pretrained(
        cls, name: str, *, cache_dir: str | None = None, **kwargs: Any
    ) -> "LanguageAndImages":
        """What `AutoModel.from_pretrained(name, trust_remote_code=True)` calls; float32, in eval mode."""
        return cls.load(name, cache_folder=cache_dir, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any) -> None:
        """What `AutoModel` calls first; nothing is to be noted."""

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Texts to ids and mask, images (PIL, paths, bytes) to pixels; never both in one list.

        An item may stand in a dictionary of one entry, `{"text": ...}` or `{"image": ...}`.
        """
        inputs = [next(iter(x.values())) if isinstance(x, dict) and len(x) == 1 else x for x in inputs]
        images = [read_image(item) for item in inputs if not isinstance(item, str) or _is_file(item)]
        if not images:
            return self._tokens([self.config_dict["prefix"] + (prompt or "") + text for text in inputs])
        if len(images) < len(inputs):
            raise ValueError("texts and images in one list; encode them in two calls")
        return dict(self.image_processor(images, return_tensors="pt"))

    def tokenize(self, texts: Sequence[Any], **kwargs: Any) -> dict[str, Tensor]:
        """What releases of sentence-transformers before `preprocess` call."""
        return self.preprocess(texts, **kwargs)

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        # Padded here and on the right, whatever the tokenizer's own habit: models were trained so.
        rows = self.tokenizer(
            texts, truncation=True, max_length=self.max_seq_length, return_attention_mask=False
        )["input_ids"]
        if not all(rows):
            raise ValueError(f"text {[bool(row) for row in rows].index(False)} has no tokens")
        ids = torch.full((len(rows), max(map(len, rows))), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, `[B, D]` float32 unit rows."""
        if "input_ids" in features:
            rows = self.embed_texts(features["input_ids"], features["attention_mask"])
        else:
            floats: Any = self.image_tower.dtype
            given = {k: v.to(floats) if v.is_floating_point() else v for k, v in features.items()}
            rows = image_rows(self.image_tower, given)
        return {**features, "sentence_embedding": rows}

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both `[B, T]` int64, to `[B, D]` float32 unit rows."""
        if self.towers is not None:
            return unit_rows(self.towers.get_text_features(input_ids, attention_mask))
        mask = attention_mask.bool()
        states = normed(layer_states(self.encoder, input_ids, mask, self.layers))
        return unit_rows(self.adapter(states, mask))

    def get_embedding_dimension(self) -> int:
        """D."""
        return int(self.config_dict["dim"])

    get_sentence_embedding_dimension = get_embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write a folder that needs nothing else: both base models, trained weights in their places."""
        root = Path(output_path)
        root.mkdir(parents=True, exist_ok=True)
        places = {"text_model": self.text_place, "image_model": "image_model"}
        for name, place in places.items():
            model = getattr(self, name)
            added = added_weights(model)
            kept = {key: value for key, value in model.state_dict().items() if key not in added}
            model.save_pretrained(root / place, state_dict=kept)
        self.tokenizer.save_pretrained(root / self.text_place)
        self.image_processor.save_pretrained(root / "image_model")
        save_file(self._own_weights(), root / WEIGHTS, metadata={"format": "pt"})
        (root / WEIGHTS).chmod(0o644)
        config = {
            **self.config_dict,
            **{
                name: {"folder": place, **{key: self.config_dict[name][key] for key in ("unused", "pooler")}}
                for name, place in places.items()
            },
            "max_tokens": self.max_seq_length,
            "stages": [""],
            "vocabulary": None,
            "weights_sha256": hashlib.sha256((root / WEIGHTS).read_bytes()).hexdigest(),
        }
        (root / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _own_weights(self) -> dict[str, Tensor]:
        """What no base model has a place for."""
        if self.towers is None:
            parts = {"adapter": self.adapter.state_dict(), "image": added_weights(self.image_model)}
            parts["text_model.encoder"] = added_weights(self.encoder)
        else:
            heads = () if self.is_one_model else ("visual_projection.weight", "text_projection.weight")
            own = {name: self.towers.get_parameter(name).detach() for name in heads}
            parts = {"towers": added_weights(self.towers) | own}
        return {f"{head}.{key}": v.contiguous() for head, part in parts.items() for key, v in part.items()}


class _Root:
    """Where the export lies: a folder, or a repository of the Hub."""

    def __init__(self, *, name: str, below: str, options: dict[str, Any]) -> None:
        self.name = name
        self.local = Path(name, below) if Path(name).is_dir() else None
        self.head = f"{below}/" if below else ""
        self.options = options

    def file(self, name: str) -> Path:
        if self.local is not None:
            return self.local / name
        return Path(hf_hub_download(self.name, self.head + name, **self.options))

    def vocabulary(self, digest: str | None) -> Vocabulary | None:
        if digest is None:
            return None
        found = Vocabulary.from_json(self.file(PIECES).read_text(encoding="utf-8"))
        if found.digest != digest:
            raise ValueError(f"{self.name}: {PIECES} is not the file that was written")
        return found

    def base(self, ref: dict[str, Any], hub: dict[str, Any]) -> Path:
        """Folder of a base model: inside the export, on the Hub at its revision, or where it was trained."""
        if "folder" in ref:
            if self.local is not None:
                return self.local / str(ref["folder"])
            inside = f"{self.head}{ref['folder']}"
            patterns = [f"{inside}/{pattern}" for pattern in MODEL_FILES]
            return Path(snapshot_download(self.name, allow_patterns=patterns, **self.options)) / inside
        if ref["revision"].startswith("sha256:"):
            if not Path(ref["repo"]).is_dir():
                raise OSError(f"{ref['repo']}: the base model that the adapter was trained on is not there")
            return Path(ref["repo"])
        options = {"revision": ref["revision"], "allow_patterns": MODEL_FILES, **hub}
        return Path(snapshot_download(ref["repo"], **options))


def _base_model(folder: Path, ref: dict[str, Any]) -> nn.Module:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    module, missing = read_module(folder, config, pooler=ref["pooler"])
    unused = tuple(f"{name}." for name in ref["unused"])
    if lost := [name for name in missing if not name.startswith(unused)]:
        raise ValueError(f"{folder}: {len(lost)} weights are missing from the file, first '{lost[0]}'")
    for name in ref["unused"]:
        setattr(module, name, nn.Identity())
    return module


def _part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    head = name + "."
    return {key.removeprefix(head): value for key, value in weights.items() if key.startswith(head)}


def _is_file(text: str) -> bool:
    """Whether sentence-transformers takes a text for the path of an image."""
    suffixes = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp")
    return text.lower().endswith(suffixes) and Path(text).is_file()
