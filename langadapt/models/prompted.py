"""A frozen text tower that takes offsets to its token embeddings: where learned prompts enter."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import TextBatch, require_text
from langadapt.errors import DataError, ModelError
from langadapt.models.student import Student
from langadapt.models.teacher import Teacher
from langadapt.nn import normed


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """The student or the teacher's text tower, frozen, as prompts see it.

    `label` names it in signatures; `forward` maps a batch to embeddings `[B, D]`, with gradient; `embedding`
    is its token table; `fixed_tokens` as of the teacher.
    """

    label: str
    tokenizer: Any
    embedding: nn.Embedding
    forward: Callable[[TextBatch], Tensor]
    max_tokens: int
    prefix: str = ""
    fixed_tokens: int | None = None

    @property
    def token_dim(self) -> int:
        """H, width of the token embeddings."""
        return self.embedding.embedding_dim

    @property
    def token_scale(self) -> float:
        """Standard deviation of the token embeddings."""
        return float(self.embedding.weight.std())

    def embed(self, batch: TextBatch, offsets: Tensor | None = None) -> Tensor:
        """Unit rows `[B, D]` of a batch whose token embeddings are moved by `offsets [B, T, H]`."""
        if offsets is None:
            return F.normalize(self.forward(batch), dim=-1)
        with _moved(self.embedding, offsets):
            return F.normalize(self.forward(batch), dim=-1)


@dataclass(frozen=True, kw_only=True)
class PromptTexts:
    """One template with C class names in it, cut into tokens.

    `batch` holds `[C, T]` ids and mask. `slot [C, T]` int64 says which slot of the template a token is: 0
    right before the name, 1 before that, ...; `before` and following behind the name; -1 for the name's own
    tokens, special tokens and padding.
    """

    batch: TextBatch
    slot: Tensor
    before: int
    after: int

    def offsets(self, classes: Tensor, slots: Tensor) -> Tensor:
        """Offsets of tokens from those of slots: `classes [B]` and `slots [B, S, H]` to `[B, T, H]`."""
        padded = F.pad(slots, (0, 0, 0, 1))  # slot -1 is a row of zeros
        index = self.slot.to(slots.device)[classes] % padded.shape[1]
        return padded.gather(1, index[..., None].expand(-1, -1, padded.shape[2]))


def prompt_texts(tower: TextTower, template: str, labels: Sequence[str]) -> PromptTexts:
    """Tokenises a template with each class name in it and finds the template's tokens.

    Raises:
        ModelError: the tokenizer cannot say where in a text its tokens lie.
        DataError: an empty name, or a prompt that is longer than the tower's limit.
    """
    require_text(labels)
    if not tower.tokenizer.is_fast:
        raise ModelError(f"{tower.label}: learned prompts need a tokenizer that knows its tokens' offsets")
    template = tower.prefix + template
    start, behind = template.index("{label}"), len(template) - template.index("{label}") - len("{label}")
    texts = [template.replace("{label}", label) for label in labels]
    found = tower.tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
    longest = max(map(len, found["input_ids"]))
    if longest > (tower.fixed_tokens or tower.max_tokens):
        raise DataError(f"a prompt has {longest} tokens, {tower.label} takes {tower.max_tokens}; shorten it")
    length = tower.fixed_tokens or longest
    ids = torch.full((len(texts), length), int(tower.tokenizer.pad_token_id))
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    places: list[tuple[list[int], list[int]]] = []
    for row, text in enumerate(texts):
        count = len(found["input_ids"][row])
        ids[row, :count] = torch.tensor(found["input_ids"][row])
        mask[row, :count] = True
        end = len(text) - behind
        own = [
            (place, span)
            for place, (span, special) in enumerate(
                zip(found["offset_mapping"][row], found["special_tokens_mask"][row], strict=True)
            )
            if not special
        ]
        before = [place for place, (_, stop) in own if stop <= start]
        after = [place for place, (first, stop) in own if first >= end and stop > start]
        places.append((before[::-1], after))
    most = max(len(before) for before, _ in places)
    slot = torch.full((len(texts), length), -1)
    for row, (before, after) in enumerate(places):
        slot[row, before] = torch.arange(len(before))
        slot[row, after] = most + torch.arange(len(after))
    return PromptTexts(
        batch=TextBatch(input_ids=ids, mask=mask),
        slot=slot,
        before=most,
        after=max(len(after) for _, after in places),
    )


def student_tower(student: Student, label: str) -> TextTower:
    """The student: text model and adapter, both frozen."""
    student.eval().requires_grad_(False)
    model = student.text_model

    def forward(batch: TextBatch) -> Tensor:
        states = normed(model.states(batch, student.layers))
        embedding: Tensor = student.adapter(states, batch.mask.to(states.device))
        return embedding

    return TextTower(
        label=label,
        tokenizer=model.tokenizer,
        embedding=_token_table(model.encoder, len(model.tokenizer), label),
        forward=forward,
        max_tokens=model.max_tokens,
        prefix=model.prefix,
    )


def teacher_tower(teacher: Teacher) -> TextTower:
    """The teacher's own text tower, for English names."""
    module = teacher.module.eval().requires_grad_(False)
    text_model: nn.Module = getattr(module, "text_model", module)

    def forward(batch: TextBatch) -> Tensor:
        inputs = batch.to(teacher.device)
        given: dict[str, Tensor] = {"input_ids": inputs.input_ids}
        if teacher.fixed_tokens is None:
            given["attention_mask"] = inputs.mask.long()
        output: Any = module.get_text_features(**given)  # type: ignore[operator]
        embedding: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        return embedding.float()

    label = teacher.source.label
    return TextTower(
        label=label,
        tokenizer=teacher.tokenizer,
        embedding=_token_table(text_model, len(teacher.tokenizer), label),
        forward=forward,
        max_tokens=teacher.max_tokens,
        fixed_tokens=teacher.fixed_tokens,
    )


@contextmanager
def _moved(embedding: nn.Embedding, offsets: Tensor) -> Iterator[None]:
    def add(module: nn.Module, given: Any, out: Tensor) -> Tensor:
        return out + offsets.to(out)

    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _token_table(module: nn.Module, vocabulary: int, label: str) -> nn.Embedding:
    """The table that turns token ids into embeddings: the largest one that holds the whole vocabulary."""
    tables = [item for item in module.modules() if isinstance(item, nn.Embedding)]
    fitting = [table for table in tables if table.num_embeddings >= vocabulary]
    if not fitting:
        raise ModelError(f"{label}: no token embeddings found in it; learned prompts cannot enter")
    return max(fitting, key=lambda table: table.num_embeddings)
