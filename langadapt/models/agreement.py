"""Whether two texts mean the same, as a multilingual text encoder sees it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.models.load import resolve_model
from langadapt.models.text_model import TextModel, load_text_model
from langadapt.recipes import TextModelRef

Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]


def load_agreement(name: str, *, device: torch.device | None = None) -> Agreement:
    """A function that gives the cosine of the two sides of each pair, float32 `[R]`.

    Texts are embedded by the mean of the last layer's states, as is usual for E5 and the MiniLM family.

    Args:
        name: a local folder, or `org/name@revision` on the Hub.
        device: None takes the CPU.

    Raises:
        ModelError: no such model.
    """
    repo, _, revision = name.partition("@")
    reference = TextModelRef(repo=repo, revision=revision or None, unverified=not revision)
    place = device or torch.device("cpu")
    model = load_text_model(resolve_model(reference), reference, max_tokens=128, device=place)

    def agree(english: Sequence[str], target: Sequence[str]) -> NDArray[np.float32]:
        one, other = _means(model, english), _means(model, target)
        return np.asarray((one * other).sum(dim=1).numpy(), np.float32)

    return agree


@torch.inference_mode()
def _means(model: TextModel, texts: Sequence[str]) -> torch.Tensor:
    tokens = model.tokenize(texts)
    out = torch.zeros(len(texts), model.state_dim)
    for rows in model.engine.batches(tokens):
        states = model.packed_states(tokens, rows, "last")[:, 0].float().cpu()
        parts = torch.split(states, tokens.lengths_of(rows).tolist())
        means = [text.mean(dim=0) for text in parts]
        out[torch.from_numpy(rows)] = torch.stack(means)
    return torch.nn.functional.normalize(out, dim=1)
