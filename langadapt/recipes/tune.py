"""Contrastive tuning on image-caption pairs: which weights of which tower learn, and how."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from langadapt.recipes.numbers import Fraction, NotNegative, PositiveFloat, PositiveInt
from langadapt.recipes.strict_yaml import Spec
from langadapt.recipes.trains import LastLayers, Lora

Word = Literal[
    "locked", "full", "layer_norm", "bitfit", "adapters", "layer", "projection", "head", "embeddings"
]
_WORDS = ("locked", "full", "layer_norm", "bitfit", "adapters", "layer", "projection", "head", "embeddings")


def _kind_of_method(value: object) -> str | None:
    if isinstance(value, LastLayers) or (isinstance(value, dict) and "last" in value):
        return "last"
    if isinstance(value, Lora) or (isinstance(value, dict) and "lora" in value):
        return "lora"
    return "word" if value in _WORDS else None


Method = Annotated[
    Annotated[Word, Tag("word")] | Annotated[LastLayers, Tag("last")] | Annotated[Lora, Tag("lora")],
    Discriminator(
        _kind_of_method,
        custom_error_type="method",
        custom_error_message=f"expected one of {', '.join(_WORDS)}, {{last: n}} or {{lora: {{rank: n}}}}",
    ),
]


def _as_list(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Methods = Annotated[tuple[Method, ...], BeforeValidator(_as_list)]


class ContrastStage(Spec):
    """What `tune` and `align` have in common.

    A tower's methods, alone or as a list: `locked`, `full`; `layer_norm` (gains and biases of all
    normalisation layers), `bitfit` (all biases), `adapters` (bottlenecks of a quarter of the width behind
    attention and feed-forward of each layer), `layer` (one more Transformer layer on top), `projection` (the
    last linear map into the shared space), `head` (everything behind the pretrained encoder: of a distilled
    student its whole adapter), `lora: {rank: n}`, `last: n` (layers of the encoder), `embeddings` (token
    embeddings).
    """

    pairs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Pair recipes by name or path; or tables (image, caption) and tar shards by path."""
    text: Methods = ("adapters", "layer_norm", "projection")
    image: Methods = ("locked",)
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: symmetric InfoNCE; `sigmoid`: each text-image pair by itself, as in SigLIP."""
    temperature: PositiveFloat = 0.05
    """Start of the learned temperature, which divides the similarities and stays within 0.01 and 1."""
    epochs: PositiveInt = 15
    patience_epochs: PositiveInt = 4
    """Training ends when so many epochs in a row brought nothing on the held-out pairs."""
    batch_size: Annotated[int, Field(gt=1)] = 512
    """Pairs per optimizer step, all processes together; each is contrasted with all others."""
    chunk_size: PositiveInt = 64
    """Pairs of an unlocked tower whose activations are in memory at once (gradient caching)."""
    learning_rate: PositiveFloat = 5e-4
    """Peak learning rate of added weights, norms, biases, projections and the head."""
    pretrained_learning_rate: PositiveFloat = 5e-5
    """Peak learning rate of pretrained matrices: `full`, `last` and `embeddings`."""
    warmup_fraction: Fraction = 0.1
    weight_decay: NotNegative = 0.02
    gradient_clip_norm: PositiveFloat = 1.0
    held_out_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the images kept from training, with all their captions, to choose the checkpoint."""
    augment: bool = True
    """Random resized crops for an unlocked image tower."""
    flip: bool = False
    """Also mirror images by chance; captions that say left or right then lie."""
    broken_images: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop the run, or leave its pairs out and count them."""
    seed: int = 0

    @field_validator("text", "image")
    @classmethod
    def _methods_fit(cls, value: tuple[Method, ...]) -> tuple[Method, ...]:
        if not value:
            raise ValueError("name at least one method, or `locked`")
        for alone in ("locked", "full"):
            if alone in value and len(value) > 1:
                raise ValueError(f"{alone} stands alone")
        kinds = [item if isinstance(item, str) else type(item) for item in value]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a method is named twice")
        return value


class AlignStage(ContrastStage):
    """Alignment of two encoders that have never met; their projections are new and always train."""

    text: Methods = ("full",)
    dim: PositiveInt = 256
    """Width of the shared space."""
    max_tokens: PositiveInt = 77
    """Longer captions are cut here (and at the text encoder's own limit)."""


class TuneStage(ContrastStage):
    """Tuning of a distilled student and, where asked, of the teacher's image tower."""

    distill_weight: NotNegative = 0.0
    """Weight of the distillation term kept from `distill`: needs English sides or `distill_data`."""
    distill_data: tuple[str, ...] = ()
    """Parallel data recipes whose sentences keep teaching beside the pairs."""
    distill_batch_size: PositiveInt = 256
    """Parallel sentences per optimizer step, all processes together."""
    keep_contaminated: bool = False
    """Train on images of the recipe's test sets too; every later score's signature then says so."""

    @model_validator(mode="after")
    def _something_trains(self) -> "TuneStage":
        if self.text == self.image == ("locked",):
            raise ValueError("text and image are both locked: nothing would train")
        if self.distill_weight and self.text == ("locked",):
            raise ValueError("distill_weight: the text tower is locked, so nothing would follow it")
        if self.distill_data and not self.distill_weight:
            raise ValueError("distill_data: distill_weight is 0, so it would not be used")
        return self

    def with_places(self, place: Callable[[str], str]) -> Self:
        """The same stage with every data recipe's name passed through `place`."""
        pairs, parallel = tuple(map(place, self.pairs)), tuple(map(place, self.distill_data))
        return self.model_copy(update={"pairs": pairs, "distill_data": parallel})
