"""Contrastive tuning on image-caption pairs: which weights of which tower learn, and how."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from langadapt.recipes.yaml import Spec

PositiveInt = Annotated[int, Field(gt=0, le=1_000_000_000)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
BatchSize = Annotated[int, Field(gt=1, le=1_000_000)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _one_label(value: str) -> str:
    if value.count("{label}") != 1:
        raise ValueError(f"a template needs {{label}} exactly once: {value!r}")
    return value


Template = Annotated[str, AfterValidator(_one_label)]
"""A prompt with `{label}` where the name of the class goes."""

Word = Literal[
    "locked", "full", "layer_norm", "bitfit", "adapters", "layer", "projection", "head", "embeddings"
]


class LastLayers(Spec):
    """Train the last Transformer layers of a pretrained encoder."""

    last: PositiveInt
    """Number of layers, counted from the output."""

    def __str__(self) -> str:
        return f"last {self.last} layers" if self.last > 1 else "last layer"


class Lora(Spec):
    """Train low-rank updates of the attention's query and value projections (through peft)."""

    class Size(Spec):
        rank: PositiveInt = 8
        alpha: PositiveFloat = 16.0

    lora: Size

    def __str__(self) -> str:
        return f"lora (rank {self.lora.rank}, alpha {self.lora.alpha:g})"


def _kind_of_method(value: object) -> str | None:
    for kind, spec in (("last", LastLayers), ("lora", Lora)):
        if isinstance(value, spec) or (isinstance(value, dict) and kind in value):
            return kind
    return "word" if value in get_args(Word) else None


Method = Annotated[
    Annotated[Word, Tag("word")] | Annotated[LastLayers, Tag("last")] | Annotated[Lora, Tag("lora")],
    Discriminator(
        _kind_of_method,
        custom_error_type="method",
        custom_error_message=f"expected one of {', '.join(get_args(Word))}, {{last: n}} or "
        "{lora: {rank: n}}",
    ),
]


def _as_list(value: object) -> object:
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple("locked" if item == "frozen" else item for item in items)


def _methods_fit(value: tuple[Method, ...]) -> tuple[Method, ...]:
    if not value:
        raise ValueError("name at least one method, or `locked`")
    for alone in ("locked", "full"):
        if alone in value and len(value) > 1:
            raise ValueError(f"{alone} stands alone")
    kinds = [item if isinstance(item, str) else type(item) for item in value]
    if len(set(kinds)) < len(kinds):
        raise ValueError("a method is named twice")
    return value


Trainable = Annotated[tuple[Method, ...], BeforeValidator(_as_list), AfterValidator(_methods_fit)]
"""Which weights of a tower train: one method or several. `frozen` is another word for `locked`."""


def trainable_text(methods: tuple[Method, ...]) -> str:
    """The methods for people: `adapters, lora (rank 8, alpha 16)`."""
    return ", ".join(map(str, methods))


class ContrastStage(Spec):
    """What `tune` and `align` have in common.

    A tower's methods, alone or as a list: `locked`, `full`; `layer_norm` (gains and biases of all
    normalisation layers), `bitfit` (all biases), `adapters` (bottlenecks of a quarter of the width behind
    attention and feed-forward of each layer), `layer` (one more Transformer layer on top), `projection` (the
    last linear map into the shared space), `head` (everything behind the pretrained encoder: of a distilled
    student its whole adapter), `lora: {rank: n}`, `last: n` (layers of the encoder; blocks
    or stages of a convolutional one), `embeddings` (token embeddings).
    """

    pairs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Pair recipes by name or path; or tables (image, caption) and tar shards by path."""
    text: Trainable = ("adapters", "layer_norm", "projection")
    image: Trainable = ("locked",)
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: symmetric InfoNCE; `sigmoid`: each text-image pair by itself, as in SigLIP."""
    temperature: PositiveFloat = 0.05
    """Start of the learned temperature, which divides the similarities and stays within 0.01 and 1."""
    epochs: PositiveInt = 15
    patience_epochs: PositiveInt = 4
    """Training ends when so many epochs in a row brought nothing on the held-out pairs."""
    batch_size: BatchSize = 512
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
    keep_contaminated: bool = False
    """Train on images of the recipe's test sets too; every later score's signature then says so."""
    seed: Seed = 0

    name: ClassVar[Literal["align", "tune", "domain"]]

    def with_paths(self, absolute: Callable[[str], str]) -> Self:
        """Return the same stage with every data recipe's name passed through `absolute`."""
        return self.model_copy(update={"pairs": tuple(map(absolute, self.pairs))})


class AlignStage(ContrastStage):
    """Alignment of two encoders that have never met; their projections are new and always train."""

    name: ClassVar[Literal["align", "tune", "domain"]] = "align"

    text: Trainable = ("full",)
    dim: Width = 256
    """Width of the shared space."""
    pooling: Literal["auto", "mean", "cls", "last", "pooler"] = "auto"
    """How a text's states become one row: mean over the tokens, first token, last token, or the encoder's own
    pooler. `auto`: as the folder says (1_Pooling/config.json of sentence-transformers), else the mean."""
    max_tokens: PositiveInt = 77
    """Longer captions are cut here (and at the text encoder's own limit)."""


class TuneStage(ContrastStage):
    """Tuning of a distilled student and, where asked, of the teacher's image tower."""

    name: ClassVar[Literal["align", "tune", "domain"]] = "tune"

    distill_weight: NotNegative = 0.0
    """Weight of the distillation term kept from `distill`: needs English sides or `distill_data`."""
    distill_data: tuple[str, ...] = ()
    """Parallel data recipes whose sentences keep teaching beside the pairs."""
    distill_batch_size: PositiveInt = 256
    """Parallel sentences per optimizer step, all processes together."""

    @model_validator(mode="after")
    def _something_trains(self) -> "TuneStage":
        if self.text == self.image == ("locked",):
            raise ValueError("text and image are both locked: nothing would train")
        if self.distill_weight and self.text == ("locked",):
            raise ValueError("distill_weight: the text tower is locked, so nothing would follow it")
        if self.distill_data and not self.distill_weight:
            raise ValueError("distill_data: distill_weight is 0, so it would not be used")
        return self

    def with_paths(self, absolute: Callable[[str], str]) -> Self:
        """Return the same stage with every data recipe's name passed through `absolute`."""
        parallel = tuple(map(absolute, self.distill_data))
        return super().with_paths(absolute).model_copy(update={"distill_data": parallel})


class HardSampling(Spec):
    """From the difficulty of a pair to its chance of being drawn, or to its weight in the loss.

    The difficulty lies in 0 to 1. It is measured with the model as it is before the stage, and again in each
    batch that holds the pair.
    """

    difficulty: Literal["chance", "rank"] = "chance"
    """`chance`: one minus the softmax probability of the partner in a batch, mean of both directions. `rank`:
    one minus its reciprocal rank: 0 for nearly all pairs of a small batch."""
    strength: NotNegative = 0.0
    """Draws follow difficulty ** strength; 0: each pair comes once per epoch (see benchmarks/DOMAIN.md)."""
    floor_fraction: Fraction = 0.3
    """Share of the draws (or of the loss, for `instance_strength`) that ignores the difficulty."""
    noise_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto"] = "auto"
    """The hardest share of the pairs gets the floor alone, because wrong captions are among them. `auto`: as
    many as captions seem to be wrong, by the ranks at which the held-out ones find their image at first."""
    momentum: Fraction = 0.7
    """Share of the old difficulty that stays when a pair is measured again."""
    uniform_epochs: Annotated[int, Field(ge=0)] = 0
    """Ordinary epochs before the draws follow the difficulty, which is measured meanwhile."""
    instance_strength: NotNegative = 0.0
    """Weighs the pairs in the loss by difficulty ** instance_strength instead of drawing them more often."""

    @model_validator(mode="after")
    def _counted_once(self) -> "HardSampling":
        if self.strength and self.instance_strength:
            raise ValueError("strength and instance_strength would count the difficulty twice: set one to 0")
        return self


class DomainStage(TuneStage):
    """Adaptation to a domain: adapters inside both frozen towers; difficult pairs can be drawn more often."""

    name: ClassVar[Literal["align", "tune", "domain"]] = "domain"

    text: Trainable = ("adapters",)
    image: Trainable = ("adapters",)
    sampling: HardSampling = HardSampling()
    blend: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the change that is kept at the end: less than 1 forgets less, and gains less."""


class FewShotStage(Spec):
    """A prompt is [general context][domain context][instance context][class name]; contexts can be off."""

    template: Template | None = None
    """Where every context starts; None is the first of the recipe's `prompts`. Its tokens are the learnable
    ones: a longer template has a longer context."""
    general: bool = True
    """Tokens that all classes share; alone they are CoOp's."""
    domain: bool = True
    """Tokens of each class of its own."""
    instance: bool = True
    """Tokens made from the image's patches, by attention with learnable queries."""
    layout: Literal["added", "separate"] = "added"
    """`added`: the contexts are added up on all of the template's tokens. `separate`: of the tokens before
    the class name the last ones are the instance's, those before them the domain's, all others general."""
    domain_tokens: PositiveInt = 1
    """Only where the layout is separate."""
    instance_tokens: PositiveInt = 1
    """Only where the layout is separate."""
    unseen_domain: Literal["mean", "none"] = "none"
    """Domain context of a class that was not trained: the mean of the trained ones, or none."""
    attention_dim: Width = 16
    """Width of the attention between queries and patches."""
    steps: PositiveInt = 60
    """Optimizer steps, rounded up to whole epochs."""
    batch_size: PositiveInt = 32
    """Images per step."""
    learning_rate: PositiveFloat = 0.05
    """Peak learning rate of the contexts, in units of the token embeddings' standard deviation."""
    domain_rate: PositiveFloat = 0.05
    """Learning rate of the domain context, as a share of the general one's, where a class has 16 images. With
    fewer it falls with the square of their number: from one image little is learned about one class alone."""
    instance_rate: PositiveFloat = 0.02
    """Learning rate of the instance context's attention, as a share of the general one's; falls likewise."""
    warmup_fraction: Fraction = 0.05
    weight_decay: NotNegative = 0.01
    """Pulls each context back to the template."""
    gradient_clip_norm: PositiveFloat = 1.0
    temperature: PositiveFloat | None = None
    """Divides the cosines of image and class; None is what the teacher learned."""
    template_weight: NotNegative = 4.0
    """Weight of the mean of 1 - cosine between each class's prompt and its template, divided by the images of
    a class: what a template says counts like so many images, and less beside many."""
    instance_images: PositiveInt = 4
    """Images of a step that are also seen with their instance contexts; the others save its cost."""
    instance_classes: PositiveInt = 4
    """Classes that such an image is contrasted with: its own and the most similar other ones."""
    instance_alone: bool = True
    """The other contexts learn without the instance context. False: with it, as in CoCoOp."""
    rescored_classes: PositiveInt = 5
    """Classes of an image that are scored with its instance context: those that score best without one."""
    chunk_texts: PositiveInt = 1024
    """Prompts that pass through the text model at a time."""
    seed: Seed = 0
