"""What differs between the text towers of transformers, by model type: adding a family adds a row."""

from dataclasses import dataclass
from typing import Any, Literal

LORA_TARGETS = frozenset({"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"})
"""How families call the query and value projections of their attention."""


@dataclass(frozen=True, kw_only=True)
class TextFamily:
    """How a text tower runs; the defaults are transformers' own forward pass on padded texts."""

    packed: bool = False
    """Whether it takes a finished mask of four dimensions, and positions: several texts share a row."""
    positions: Literal["from zero", "behind padding"] = "from zero"
    """`behind padding`: counted from the padding id on, without tokens of that id."""
    mask: Literal["full", "sliding", "causal"] = "full"
    """`sliding`: also asked for one that is narrowed to `config.sliding_window`."""
    fused: Literal["BERT", "CLIP"] | None = None
    """Whose layers it has, as `bfloat16.py` runs them in bfloat16."""
    pooling: Literal["first token", "end token"] | None = None
    """Of an image-text model: which state `get_text_features` projects."""
    fixed_length: bool = False
    """Of an image-text model: trained on texts padded to one length without a mask, so padding is input."""


_BERT = TextFamily(packed=True, fused="BERT")
_ROBERTA = TextFamily(packed=True, positions="behind padding", fused="BERT")
_PADDED = TextFamily()

_FAMILIES = {
    "bert": _BERT,
    "distilbert": TextFamily(packed=True),
    "modernbert": TextFamily(packed=True, mask="sliding"),
    "camembert": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    # Text halves of image-text models, then the whole ones.
    "altclip_text_model": TextFamily(packed=True, positions="behind padding"),
    "chinese_clip_text_model": _BERT,
    "clip_text_model": TextFamily(packed=True, mask="causal", fused="CLIP"),
    "altclip": TextFamily(packed=True, pooling="first token"),
    "chinese_clip": TextFamily(packed=True, pooling="first token"),
    "clip": TextFamily(packed=True, pooling="end token"),
    "siglip": TextFamily(fixed_length=True),
    "siglip2": TextFamily(fixed_length=True),
}


def family_of(config: Any) -> TextFamily:
    """The family of a model's configuration; one that is not known here runs padded."""
    return _FAMILIES.get(config.model_type, _PADDED)
