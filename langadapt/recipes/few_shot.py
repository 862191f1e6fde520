"""Stage few_shot: which parts of a prompt are learned from a few images of each class, and how."""

from typing import Literal

from pydantic import field_validator

from langadapt.recipes.numbers import Fraction, NotNegative, PositiveFloat, PositiveInt
from langadapt.recipes.strict_yaml import Spec


class FewShotStage(Spec):
    """A prompt is [general context][domain context][instance context][class name]; contexts can be off."""

    template: str | None = None
    """Where every context starts, with `{label}`; None is the first of the recipe's `prompts`. Its tokens are
    the learnable ones: a longer template has a longer context."""
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
    attention_dim: PositiveInt = 16
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
    """The instance context learns on top of the others, which learn without it. False: the others learn from
    prompts with it, too, as in CoCoOp."""
    rescored_classes: PositiveInt = 5
    """Classes of an image that are scored with its instance context: those that score best without one. As
    many as there are classes is the full, dear way."""
    chunk_texts: PositiveInt = 1024
    """Prompts that pass through the text model at a time."""
    seed: int = 0

    @field_validator("template")
    @classmethod
    def _has_label(cls, value: str | None) -> str | None:
        if value is not None and value.count("{label}") != 1:
            raise ValueError(f"the template needs {{label}} exactly once: {value!r}")
        return value
