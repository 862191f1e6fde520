"""The learned part of a prompt: offsets to the token embeddings of a template, zero at the start."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.recipes.stages import FewShotStage


class VisualGuidedAttention(nn.Module):
    """Token offsets from an image's patches: learnable queries look at the patches.

    A gate of zero multiplies the answer, so that an untrained instance context changes nothing.
    `patch_dim` is V, `token_dim` H, `tokens` S; `attention_dim` is the width of queries, keys and values.
    """

    def __init__(self, *, patch_dim: int, token_dim: int, tokens: int, attention_dim: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, attention_dim) * attention_dim**-0.5)
        self.key = nn.Linear(patch_dim, attention_dim, bias=False)
        self.value = nn.Linear(patch_dim, attention_dim)
        self.out = nn.Linear(attention_dim, token_dim)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, patches: Tensor) -> Tensor:
        """Map `patches [B, P, V]` to offsets `[B, S, H]`."""
        normed = F.layer_norm(patches.float(), patches.shape[-1:])
        keys, values = self.key(normed), self.value(normed)
        scores = torch.einsum("sa,bpa->bsp", self.queries, keys) * keys.shape[-1] ** -0.5
        found: Tensor = self.out(F.gelu(scores.softmax(dim=-1) @ values))
        return torch.tanh(self.gate) * found


class PromptLearner(nn.Module):
    """General, domain and instance context as offsets to a template's token embeddings.

    Adding an offset to a template's token and learning the token from there are the same function, but an
    offset of zero is the template exactly, weight decay pulls towards the template, and classes whose
    template is cut into other tokens share what can be shared.

    A slot is a place of the template, S `slots` in all: slot 0 stands right before the class name, slot 1
    before slot 0, and so on; the slots behind the name follow. C `classes` are trained. Offsets are learned
    in units of the standard deviation of `table`, the token embeddings of width H. `patch_dim` is V, width of
    patch states.

    Source: general context after CoOp (Zhou et al., 2022); the three parts are the structured prompts of the
    language-adaptation talk.
    """

    def __init__(
        self, *, spec: FewShotStage, slots: int, classes: int, table: nn.Embedding, patch_dim: int
    ) -> None:
        super().__init__()
        instance = domain = general = range(slots)
        if spec.layout == "separate":
            instance = range(spec.instance_tokens if spec.instance else 0)
            domain = range(len(instance), len(instance) + (spec.domain_tokens if spec.domain else 0))
            general = range(len(instance) + len(domain), slots)
        self.slots = slots
        self.token_scale, token_dim = float(table.weight.std()), table.embedding_dim
        self.unseen_domain = spec.unseen_domain
        self.instance_alone = spec.instance_alone
        self.places = {"general": general, "domain": domain, "instance": instance}
        self.general = nn.Parameter(torch.zeros(len(general), token_dim)) if spec.general else None
        self.domain = nn.Parameter(torch.zeros(classes, len(domain), token_dim)) if spec.domain else None
        self.instance: VisualGuidedAttention | None = None
        if spec.instance:
            sizes = {"patch_dim": patch_dim, "token_dim": token_dim, "attention_dim": spec.attention_dim}
            self.instance = VisualGuidedAttention(tokens=len(instance), **sizes)

    def forward(self, classes: Tensor, patches: Tensor | None) -> Tensor:
        """Offsets of the slots, `[K, S, H]` or `[B, K, S, H]` float32.

        `classes [K]` or `[B, K]`, int64, say which trained class each is; -1 is one that was not trained.
        `patches [B, P, V]` of B images are for the instance context; None leaves it out.
        """
        offsets = self._of_classes(classes)
        if self.instance is not None and patches is not None:
            made = self.instance(patches)[:, None].expand(-1, offsets.shape[1], -1, -1)
            offsets = offsets.detach() if self.instance_alone else offsets
            offsets = offsets + self._spread("instance", made)
        return offsets * self.token_scale

    def _of_classes(self, classes: Tensor) -> Tensor:
        parts = []
        if self.general is not None:
            parts.append(self._spread("general", self.general))
        if self.domain is not None:
            mean = self.domain.mean(dim=0, keepdim=True)
            unseen = mean if self.unseen_domain == "mean" else torch.zeros_like(mean)
            table = torch.cat([self.domain, unseen])  # -1 is its last row
            parts.append(self._spread("domain", table[classes]))
        like = self.general if self.general is not None else next(self.parameters())
        start = like.new_zeros(*classes.shape, self.slots, 1)
        return sum(parts, start)

    def _spread(self, context: str, offsets: Tensor) -> Tensor:
        """Put a context's offsets at their places among all slots; the others are zero."""
        places = self.places[context]
        return F.pad(offsets, (0, 0, places.start, self.slots - places.stop))


def prompt_loss(
    cosines: Tensor, own: Tensor, to_template: Tensor, *, temperature: float, template_weight: float
) -> Tensor:
    """Cross-entropy of the own class plus the weighted distance of prompts from their templates, a scalar.

    `cosines [B, K]` are of images and candidate classes, `own [B]` int64 says which candidate is right,
    `to_template` (any shape) are cosines of prompts and their templates.

    Source: the second term is KgCoOp's (Yao et al., 2023, eq. 5) up to a factor of 2.
    """
    value = F.cross_entropy(cosines / temperature, own)
    return value + template_weight * (1.0 - to_template).mean()


def linear_probe(*, classes: int, dim: int) -> nn.Linear:
    """Return a linear classifier of unit image embeddings, `[B, dim]` to `[B, classes]`, all weights zero."""
    probe = nn.Linear(dim, classes)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    return probe


class TipAdapter(nn.Module):
    """A cache of the shots: an image near a shot gets some of that shot's class.

    Without training it is Tip-Adapter; with `keys` trained, Tip-Adapter-F.

    `shots [N, D]` are unit image embeddings with `labels [N]` int64 in [0, C), `classes [C, D]` unit class
    embeddings of the zero-shot classifier, whose cosines `temperature` divides.

    Source: Zhang et al., 2022, eq. 4 to 6, with its values for ImageNet: weight 1, sharpness 5.5.
    """

    sharpness = 5.5

    def __init__(self, *, shots: Tensor, labels: Tensor, classes: Tensor, temperature: float) -> None:
        super().__init__()
        self.keys = nn.Parameter(shots.clone())
        self.register_buffer("values", F.one_hot(labels, len(classes)).to(shots.dtype))
        self.register_buffer("classes", classes)
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """Map `images [B, D]`, unit rows, to scores `[B, C]`."""
        assert isinstance(self.values, Tensor)
        assert isinstance(self.classes, Tensor)
        near = torch.exp(self.sharpness * (images @ self.keys.T - 1.0))
        return images @ self.classes.T / self.temperature + near @ self.values
