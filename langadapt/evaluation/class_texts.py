"""From class names to one embedding per class."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from langadapt.data.store import fingerprint

Encode = Callable[[list[str]], Tensor]


def class_embeddings(names: Sequence[Sequence[str]], templates: Sequence[str], encode: Encode) -> Tensor:
    """Mean of the unit rows of every name in every template, made a unit row again.

    Args:
        names: of C classes, each one name or several synonyms.
        templates: each with `{label}`; one of them is a single template, several are an ensemble.
        encode: B texts to `[B, D]` unit rows.

    Returns:
        `[C, D]` float32 unit rows.

    Source: the ensemble of Radford et al., 2021, section 3.1.4.
    """
    texts = [filled(template, name) for synonyms in names for name in synonyms for template in templates]
    owner = torch.tensor([c for c, synonyms in enumerate(names) for _ in synonyms for _ in templates])
    rows = encode(texts)
    sums = torch.zeros(len(names), rows.shape[1]).index_add_(0, owner, rows)
    return F.normalize(sums, dim=-1)


def filled(template: str, label: str) -> str:
    """The template with the class's name in it."""
    return template.replace("{label}", label)


def prompts_label(templates: Sequence[str]) -> str:
    """How templates stand in a signature: their number and a digest."""
    kind = "single" if len(templates) == 1 else f"ensemble-{len(templates)}"
    return f"{kind}@{fingerprint(*templates)[:8]}"
