"""The language recipe: everything that differs between two languages, in one file."""

import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from langadapt.errors import LangadaptWarning
from langadapt.recipes.stages import (
    AlignStage,
    BatchSize,
    DomainStage,
    FewShotStage,
    Fraction,
    PositiveFloat,
    PositiveInt,
    Seed,
    Template,
    Trainable,
    TuneStage,
    Width,
)
from langadapt.recipes.yaml import CommitHash, LanguageCode, Spec


class ModelRef(Spec):
    """A base model: a Hub repository at a commit, or a local folder."""

    repo: str
    """`org/name` on the Hub, or a folder; a relative folder starts at the recipe's own folder."""
    revision: CommitHash | None = None
    """Full commit hash of a Hub repository. A local folder has none: its content is hashed instead."""
    unverified: bool = False
    """True while nobody has checked repo and revision against the Hub."""
    licence: str = "unknown"
    """Of the weights: SPDX id where one exists, else the licence's own name, or `unknown`."""
    licence_source: str | None = None
    """Where the licence was read."""


class ExtendVocabulary(Spec):
    """New pieces for a tokenizer that hardly knows the language, learnt on the target side of the data.

    Old pieces keep their ids and their rows; only the new rows train. English text stays in its old pieces:
    no new piece occurs in the English side of the data.
    """

    pieces: PositiveInt = 2000
    """At most so many new pieces; letters that the tokenizer does not know come first."""
    learning_rate: PositiveFloat = 5e-3
    """Peak learning rate of the new rows."""


class TextModelRef(ModelRef):
    """The multilingual text encoder and how much of it trains."""

    trains: Trainable = ("locked",)
    """What of it trains beside the adapter: `locked` (or `frozen`), `embeddings` (token embeddings),
    `last: n`, `lora: {rank: 8}`, `full`, or any other methods of `tune.text`, alone or as a list."""
    learning_rate: PositiveFloat = 2e-4
    """Peak learning rate of the text model's own trained weights; unused while locked."""
    extend_vocabulary: ExtendVocabulary | None = None
    """New tokenizer pieces with trained rows, for a language or script that the text model never saw."""
    prefix: str | None = None
    """Put before each text, for models that expect one (E5: `query: `). None: the default prompt that a
    sentence-transformers repository names, else its prompt for queries, else nothing."""
    tokenizer_language: str | None = None
    """Source language code of tokenizers that need one (NLLB: `swh_Latn`)."""


class AdapterSpec(Spec):
    """Shape of the trained part: states of several layers -> Down -> Transformer layers -> pooling -> Up."""

    layers: Annotated[int, Field(ge=0, le=24)] | Literal["auto"] = "auto"
    """Transformer layers between Down and pooling. `auto`: none where the text model is aligned (it finds
    translations among the pairs before any training), else 2. With 0, GELU follows Down."""
    bottleneck_dim: Width | Literal["auto"] = "auto"
    """Width between Down and Up. `auto`: 2048 without Transformer layers, else 256."""
    heads: PositiveInt = 4
    feedforward_dim: Width = 1024
    dropout: Fraction = 0.1
    states: Literal["auto", "last", "all"] | int | tuple[int, ...] = "auto"
    """Layers whose states the adapter takes: how many at even distances (0 to 12: 0, 4, 8, 12), `last`,
    `all`, or indices. 0 is the token embeddings, -1 the last layer. `auto`: four in the
    upper half of an aligned text model (0 to 12: 6, 8, 10, 12), which differ least between languages, else
    4."""
    pooling: Literal["mean", "attention"] = "attention"

    @model_validator(mode="after")
    def _fits(self) -> "AdapterSpec":
        if isinstance(self.states, int) and self.states < 2:
            raise ValueError(f"states {self.states}: give 2 or more, `last`, `all`, or indices like [0, -1]")
        for dim in (256, 2048) if self.bottleneck_dim == "auto" else (self.bottleneck_dim,):
            if dim % self.heads:
                raise ValueError(f"heads {self.heads} must divide bottleneck_dim {dim}")
        return self

    def settled(self, *, aligned_states: int | None = None) -> "AdapterSpec":
        """Return the shape with numbers instead of `auto`.

        `aligned_states` is how many states an aligned text model has, None for any other model.
        """
        last = None if aligned_states is None else aligned_states - 1
        layers = (2 if last is None else 0) if self.layers == "auto" else self.layers
        width = (256 if layers else 2048) if self.bottleneck_dim == "auto" else self.bottleneck_dim
        upper = 4 if last is None else tuple(dict.fromkeys(last - i * last // 6 for i in (3, 2, 1, 0)))
        states = upper if self.states == "auto" else self.states
        return self.model_copy(update={"layers": layers, "bottleneck_dim": width, "states": states})


class DistillStage(Spec):
    """How the teacher's text tower is distilled on parallel sentences."""

    data: tuple[str, ...] = ()
    """Parallel data recipes: names of shipped ones or paths of your own."""
    english: tuple[str, ...] = ()
    """English text without translations: tables with a column `english` or `caption`, or parallel recipes,
    whose English side is taken. The student learns to answer it as the teacher does. It fills its share of
    each batch, at most half; without `data` it is all there is, and an aligned text model carries over."""
    start: str | None = None
    """Run folder or artifact whose adapter training starts from; same models, same shape."""
    epochs: PositiveInt = 5
    """Each epoch ends with a validation; it passes over the rows as often as `min_steps` asks for."""
    min_steps: PositiveInt = 750
    """At least so many optimizer steps in all: few pairs need as many steps as some ten thousand."""
    batch_size: BatchSize = 128
    """Rows per optimizer step, all processes together; each row is contrasted with all others."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate of the adapter (AdamW, linear warm-up, cosine to zero)."""
    warmup_fraction: Fraction = 0.05
    weight_decay: Annotated[float, Field(ge=0.0)] = 2.0
    """Of the adapter (AdamW): strong, since it is wide and pairs are few. Trained weights of the text model
    take a two-hundredth of it."""
    gradient_clip_norm: PositiveFloat = 1.0
    distance: Literal["cosine", "mse"] = "cosine"
    """Distance between student and teacher rows, both of unit length."""
    relation_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the term that compares similarities to 2,048 training sentences with the teacher's."""
    relation_temperature: PositiveFloat = 0.1
    """Divides the similarities of that term."""
    info_nce_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the term that contrasts each row with the other rows of its batch."""
    temperature: PositiveFloat = 0.05
    """Divides the similarities of the in-batch contrastive term."""
    identity_fraction: Fraction = 0.0
    """English sentences fed to the student as they are, as a fraction of the rows of the target language."""
    held_out_sentences: Annotated[int, Field(ge=2)] = 1000
    """English sentences kept from training; the checkpoint whose texts come nearest to the teacher's
    embeddings of them is kept."""
    max_tokens: PositiveInt = 77
    """Longer student inputs are cut here (and at the text model's own limit)."""
    language_temperature: PositiveFloat = 3.3
    """Each of several languages has a share of the rows that grows with its number of rows to the power of
    one over this: 1 takes them as they are, more makes the shares alike. Source: XLM-R's exponent of 0.3."""
    seed: Seed = 0

    def passes(self, steps: int) -> int:
        """Return how often an epoch passes over rows that make `steps` batches."""
        return math.ceil(self.min_steps / (self.epochs * steps))

    def with_paths(self, absolute: Callable[[str], str], start: Callable[[str], str]) -> Self:
        """Return the stage with every data name passed through `absolute`, and `start` through `start`."""
        data, english = tuple(map(absolute, self.data)), tuple(map(absolute, self.english))
        started = self.start and start(self.start)
        return self.model_copy(update={"data": data, "english": english, "start": started})


Iso6393 = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
Scripts = Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z][a-z]{3}$")], ...], Field(min_length=1)]


class OneLanguage(Spec):
    """What data call a language, and the scripts that its texts are in."""

    code: LanguageCode
    iso639_3: Iso6393
    scripts: Scripts


class LanguageRecipe(Spec):
    """One language: what is distilled into what, on which data, and how it is scored."""

    code: LanguageCode
    """ISO 639-1 where it exists, else ISO 639-3; a second script follows: `zh-hant`."""
    name: str
    native_name: str
    languages: tuple[str, ...] = ()
    """Codes, where one adapter learns several languages. In a file of your own that gives no `code`: names or
    paths of their recipes, whose data and test sets are joined."""
    each: tuple[OneLanguage, ...] = ()
    """Codes and scripts of each of several languages, as they were joined."""
    iso639_3: Iso6393
    scripts: Scripts
    """ISO 15924 codes, the usual one first."""
    direction: Literal["ltr", "rtl"] = "ltr"
    teacher: ModelRef
    text_model: TextModelRef
    text_model_reason: str | None = None
    """Why this text model: what it has seen of the language, and where that was read."""
    adapter: AdapterSpec = AdapterSpec()
    distill: DistillStage = DistillStage()
    """A recipe of two encoders that were aligned, or of an image-text model as it is, has none."""
    align: AlignStage | None = None
    """Alignment of `teacher`, then a vision encoder, and `text_model` by image-caption pairs."""
    tune: TuneStage | None = None
    """Contrastive tuning on image-caption pairs after `distill`."""
    domain: DomainStage | None = None
    """Adaptation to a domain by image-caption pairs of it, after `distill` or `tune`."""
    prompts: tuple[Template, ...] = ()
    """Zero-shot templates in the language, each with `{label}`; the first one is the single template."""
    english_prompts: tuple[Template, ...] = ("a photo of a {label}.",)
    """Templates with which the teacher classifies English names; they give the ceiling."""
    few_shot: FewShotStage = FewShotStage()
    """How prompts are learned from a few images of each class."""
    evaluate: tuple[str, ...] = ()
    """Retrieval recipes: names of shipped ones or paths of your own."""
    examples: tuple[str, ...] = ()
    """Short search queries in the language, shown on the report page."""

    @model_validator(mode="after")
    def _has_text(self) -> "LanguageRecipe":
        if not (self.is_distilled or self.align or self.teacher.repo == self.text_model.repo):
            raise ValueError("distill: name parallel data under `data`, or English text under `english`")
        return self

    @property
    def members(self) -> tuple[OneLanguage, ...]:
        """Its language, or each of several."""
        known = {one.code: one for one in self.each}
        own = OneLanguage(code=self.code, iso639_3=self.iso639_3, scripts=self.scripts)
        codes = self.languages or (self.code,)
        return tuple(known.get(code, own.model_copy(update={"code": code})) for code in codes)

    @property
    def codes(self) -> dict[str, str]:
        """Own code of its language, or of each of several, by what data may call it: code or ISO 639-3.

        An ISO 639-3 code of two of them (`zho` of `zh` and `zh-hant`) names neither.
        """
        own = {one.code: one.code for one in self.members}
        times = Counter(one.iso639_3 for one in self.members)
        others = {one.iso639_3: one.code for one in self.members if times[one.iso639_3] == 1}
        return own | {other: code for other, code in others.items() if other not in own}

    @property
    def is_distilled(self) -> bool:
        """Whether a student is distilled; without, the text tower is that of an image-text model."""
        return bool(self.distill.data or self.distill.english)

    @property
    def templates(self) -> tuple[Template, ...]:
        """The prompts; where nobody has written any, with a warning, the bare class name."""
        if not self.prompts:
            lacks = f"nobody has written prompts in {self.name} ({self.code}): class names are embedded bare"
            way_out = "add `prompts` such as 'a photo of {label}' to the recipe"
            warnings.warn(f"{lacks}; {way_out}", LangadaptWarning, stacklevel=2)
        return self.prompts or ("{label}",)
