"""What differs between the text towers of transformers, by model type, and their layers in bfloat16.

Adding a family adds a row to the table. The fused layers are those of BERT and of CLIP's text tower in as few
operations as they need: in bfloat16 on a CPU a single text takes half the time of transformers' own layers on
the same rows, many texts take nine tenths. Everything around the layers stays transformers' own.
"""

import copy
import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import ftfy
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation, QuickGELUActivation

LORA_TARGETS = frozenset({"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"})
"""How families call the query and value projections of their attention."""


def clip_text(text: str) -> str:
    """Clean a text as CLIP's own tokenizer does before it splits: transformers leaves this out.

    Source: `basic_clean`, `whitespace_clean` and `lower` of `SimpleTokenizer`, github.com/openai/CLIP.
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):  # else the two change nothing
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


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
    """Whose layers it has, as `HalfLayers` runs them in bfloat16."""
    pooling: Literal["first token", "end token"] | None = None
    """Of an image-text model: which state `get_text_features` projects."""
    fixed_length: bool = False
    """Of an image-text model: trained on texts padded to one length without a mask, so padding is input."""
    clean: Callable[[str], str] = str
    """Of an image-text model: what its training did to a text before the tokenizer, which does not do it."""


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
    "clip": TextFamily(packed=True, pooling="end token", clean=clip_text),
    "clipseg": TextFamily(clean=clip_text),
    "groupvit": TextFamily(clean=clip_text),
    "siglip": TextFamily(fixed_length=True),
    "siglip2": TextFamily(fixed_length=True),
}


def family_of(config: Any) -> TextFamily:
    """The family of a model's configuration; one that is not known here runs padded."""
    return _FAMILIES.get(config.model_type, _PADDED)


def cleaner(config: Any, tokenizer: Any) -> Callable[[str], str]:
    """What the training of an image-text model did to a text before the tokenizer, which does not do it.

    SigLIP 2 was trained on lower case. Its checkpoints of one resolution call themselves `siglip` and have
    Gemma's tokenizer, which keeps capitals. Source: github.com/huggingface/transformers/pull/43101.
    """
    other = not type(tokenizer).__name__.startswith("Siglip")
    return str.lower if config.model_type == "siglip" and other else family_of(config).clean


_QUICK, _ROWS = 1.702, 2048

Activation = Callable[[Tensor], Tensor]


class HalfLayers(nn.Module):
    """All layers of an encoder; `norm_first`: normed before attention and feed-forward (CLIP), not behind."""

    def __init__(self, layers: "list[_Layer]", *, heads: int, norm_first: bool) -> None:
        super().__init__()
        self.layers, self.heads, self.norm_first = layers, heads, norm_first

    def forward(self, x: Tensor, mask: Tensor, *, only: Tensor | None = None) -> list[Tensor]:
        """States `[R * W, H]` behind each layer of `x [R, W, H]`, both bfloat16.

        `mask [R, 1, W, W]` bfloat16 is added to the scores. `only`, int64 `[B]`, counts places through all
        rows: what follows the last layer's attention runs for them alone, and its states are `[B, H]`.
        """
        shape = (*x.shape[:2], 3, self.heads, x.shape[2] // self.heads)
        x = x.flatten(0, 1)
        states = []
        for layer in self.layers:
            given = layer.first_norm(x) if self.norm_first else x
            query, key, value = layer.query_key_value(given).view(shape).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(query, key, value, mask)
            attended = attended.transpose(1, 2).reshape(x.shape)
            if only is not None and layer is self.layers[-1]:
                x, attended = x[only], attended[only]
            x = layer.attention_out(attended).add_(x)
            if not self.norm_first:
                x = layer.first_norm(x)
            given = layer.second_norm(x) if self.norm_first else x
            x = layer.feedforward_out(layer.activation(layer.feedforward_in(given))).add_(x)
            if not self.norm_first:
                x = layer.second_norm(x)
            states.append(x)
        return states


def half_layers(module: nn.Module) -> tuple[nn.Module, HalfLayers] | None:
    """The list of layers of a module, and the same in bfloat16; None for a family that is not known here.

    Nor where tuning has added something to a layer, or put something in a linear map's place.
    """
    config: Any = getattr(module, "config", None)
    fused = None if config is None else family_of(config).fused
    clip = fused == "CLIP"
    layers = getattr(getattr(module, "encoder", None), "layers" if clip else "layer", None)
    if fused is None or not isinstance(layers, nn.ModuleList):
        return None
    for part in layers.modules():
        if getattr(part, "added_by_tuning", False) or (
            hasattr(part, "weight") and type(part) not in (nn.Linear, nn.LayerNorm)
        ):
            return None
    made = [_clip_layer(layer) if clip else _bert_layer(layer) for layer in layers]
    return layers, HalfLayers(made, heads=config.num_attention_heads, norm_first=clip)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    query_key_value: "_Linear"
    attention_out: "_Linear"
    first_norm: "_Norm"
    feedforward_in: "_Linear"
    activation: Activation
    feedforward_out: "_Linear"
    second_norm: "_Norm"


def _bert_layer(layer: Any) -> _Layer:
    own, out = layer.attention.self, layer.attention.output
    return _Layer(
        query_key_value=_Linear(own.query, own.key, own.value),
        attention_out=_Linear(out.dense),
        first_norm=_Norm(out.LayerNorm),
        feedforward_in=_Linear(layer.intermediate.dense),
        activation=_activation(layer.intermediate.intermediate_act_fn),
        feedforward_out=_Linear(layer.output.dense),
        second_norm=_Norm(layer.output.LayerNorm),
    )


def _clip_layer(layer: Any) -> _Layer:
    own, mlp = layer.self_attn, layer.mlp
    quick = isinstance(mlp.activation_fn, QuickGELUActivation)
    # x sigmoid(a x) is silu(a x) / a: one pass instead of three, and a goes into the weights.
    scale = _QUICK if quick else 1.0
    return _Layer(
        query_key_value=_Linear(own.q_proj, own.k_proj, own.v_proj),
        attention_out=_Linear(own.out_proj),
        first_norm=_Norm(layer.layer_norm1),
        feedforward_in=_Linear(mlp.fc1, scale=scale, scale_bias=scale),
        activation=partial(F.silu, inplace=True) if quick else _activation(mlp.activation_fn),
        feedforward_out=_Linear(mlp.fc2, scale=1 / scale),
        second_norm=_Norm(layer.layer_norm2),
    )


def _activation(module: Any) -> Any:
    """GELU as a function without a module around it; whatever else a configuration names as it is."""
    return F.gelu if isinstance(module, GELUActivation) and module.act is F.gelu else module


class _Norm:
    def __init__(self, norm: nn.LayerNorm) -> None:
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._weight, self._bias = (value.detach().to(torch.bfloat16) for value in (norm.weight, norm.bias))

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Linear:
    """Linear maps of one input as one, `[N, in]` to `[N, out]`; a CPU's weight lies as oneDNN wants it."""

    def __init__(self, *parts: nn.Linear, scale: float = 1.0, scale_bias: float = 1.0) -> None:
        weight = torch.cat([part.weight.detach() for part in parts]) * scale
        bias = torch.cat([part.bias.detach() for part in parts]) * scale_bias
        self._weight, self._bias = weight.to(torch.bfloat16), bias.to(torch.bfloat16)
        self._packed = _packs(weight.device)
        if self._packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self._weight, self._bias, "none", [], "")
        return out


def _packs(device: torch.device) -> bool:
    # A private operation of PyTorch, the one that its compiler calls; elsewhere the public one does.
    known = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    known = known and hasattr(torch.ops.mkldnn, "_linear_pointwise") and device.type == "cpu"
    # ONEDNN_MAX_CPU_ISA can limit oneDNN to less than the processor has; it then refuses packed weights.
    known = known and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return known and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


Module = TypeVar("Module", bound=nn.Module)


class HalfPrecision(Generic[Module]):
    """A bfloat16 copy of a module; `fused` puts `HalfLayers` in place of a known family's layers."""

    def __init__(self, *, fused: bool) -> None:
        self._fused = fused
        self._copy: Module | None = None
        self._made_of: list[tuple[int, int]] = []

    def of(self, module: Module) -> Module:
        """The copy, in eval mode."""
        now = [
            (value.data_ptr(), value._version)
            for part in submodules(module)
            for value in part._parameters.values()
            if value is not None
        ]
        if self._copy is None or now != self._made_of:
            self._copy = None  # frees the old one first
            self._copy, self._made_of = _rounded(module, fused=self._fused), now
        return self._copy


def submodules(module: nn.Module) -> list[nn.Module]:
    """A module and all inside it, one that is there twice twice; quicker than `Module.modules`."""
    parts = [module]
    for part in parts:  # which grows meanwhile
        parts.extend(child for child in part._modules.values() if child is not None)
    return parts


def _rounded(module: Module, *, fused: bool) -> Module:
    """A copy in which every weight is bfloat16; the float32 ones are not copied on the way."""
    memo: dict[int, Any] = {}
    parts: list[tuple[str, nn.Module]] = [("", module)]
    for name, part in parts:  # which grows meanwhile
        layers = half_layers(part) if fused else None
        if layers is not None:
            memo[id(layers[0])] = layers[1]
        for below, child in part.named_children():
            if id(child) not in memo:
                parts.append((below, child))
        # Rotary angles are position times frequency: in bfloat16 far positions would point elsewhere.
        if name == "rotary_emb":
            continue
        for weight in part.parameters(recurse=False):
            memo[id(weight)] = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        for value in part.buffers(recurse=False):
            memo[id(value)] = value.to(torch.bfloat16) if value.is_floating_point() else value
    return copy.deepcopy(module, memo).eval()
