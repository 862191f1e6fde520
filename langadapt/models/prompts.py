"""Prompts: templates as class embeddings, and learned offsets to a template on a frozen text tower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from langadapt.data.tokens import TextBatch, require_text
from langadapt.errors import DataError, ModelError
from langadapt.files.store import fingerprint
from langadapt.models.families import cleaner
from langadapt.models.language_model import LanguageModel
from langadapt.nn.adapter import normed
from langadapt.nn.prompts import PromptLearner

TowerName = Literal["student", "teacher"]


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """The student or the teacher's text tower, frozen, as prompts see it.

    `label` names it in signatures; `forward` maps a batch to embeddings `[B, D]`, with gradient; `embedding`
    is its token table; `fixed_tokens` as of the teacher; `clean` as of its family.
    """

    label: str
    tokenizer: Any
    embedding: nn.Embedding
    forward: Callable[[TextBatch], Tensor]
    max_tokens: int
    prefix: str = ""
    fixed_tokens: int | None = None
    clean: Callable[[str], str] = str

    def embed(self, batch: TextBatch, offsets: Tensor | None = None) -> Tensor:
        """Unit rows `[B, D]` of a batch whose token embeddings are moved by `offsets [B, T, H]`."""

        def move(module: nn.Module, given: Any, out: Tensor) -> Tensor:
            return out if offsets is None else out + offsets.to(out)

        hook = self.embedding.register_forward_hook(move)
        try:
            return F.normalize(self.forward(batch), dim=-1)
        finally:
            hook.remove()


@dataclass(frozen=True, kw_only=True)
class PromptTexts:
    """One template with C class names in it, cut into tokens.

    `batch` holds `[C, T]` ids and mask. `slot [C, T]` int64 says which slot of the template a token is: 0
    right before the name, 1 before that, ...; `before` and following behind the name; -1 for the name's own
    tokens, special tokens and padding. There are `slots` of them, `before` in front of the name.
    """

    batch: TextBatch
    slot: Tensor
    before: int
    slots: int

    def offsets(self, classes: Tensor, slots: Tensor) -> Tensor:
        """Offsets of tokens from those of slots: `classes [B]` and `slots [B, S, H]` to `[B, T, H]`."""
        padded = F.pad(slots, (0, 0, 0, 1))  # slot -1 is a row of zeros
        index = self.slot.to(slots.device)[classes] % padded.shape[1]
        return padded.gather(1, index[..., None].expand(-1, -1, padded.shape[2]))


def prompt_texts(tower: TextTower, template: str, labels: Sequence[str]) -> PromptTexts:
    """Tokenise a template with each class name in it and find the template's tokens."""
    require_text(labels)
    if not tower.tokenizer.is_fast:
        raise ModelError(f"{tower.label}: learned prompts need a tokenizer that knows its tokens' offsets")
    template, labels = tower.clean(tower.prefix + template), [tower.clean(label) for label in labels]
    start, behind = template.index("{label}"), len(template) - template.index("{label}") - len("{label}")
    texts = [template.replace("{label}", label) for label in labels]
    found = tower.tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
    longest = max(map(len, found["input_ids"]))
    if longest > (tower.fixed_tokens or tower.max_tokens):
        raise DataError(f"a prompt has {longest} tokens, {tower.label} takes {tower.max_tokens}; shorten it")
    length = tower.fixed_tokens or longest
    ids = torch.full((len(texts), length), int(tower.tokenizer.pad_token_id))
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    found_slots: list[tuple[list[int], list[int]]] = []
    for row, text in enumerate(texts):
        count = len(found["input_ids"][row])
        ids[row, :count] = torch.tensor(found["input_ids"][row])
        mask[row, :count] = True
        spans = zip(found["offset_mapping"][row], found["special_tokens_mask"][row], strict=True)
        own = [(index, *span) for index, (span, special) in enumerate(spans) if not special]
        before = [index for index, _, stop in own if stop <= start]
        after = [index for index, first, stop in own if first >= len(text) - behind and stop > start]
        found_slots.append((before[::-1], after))
    most = max(len(before) for before, _ in found_slots)
    slot = torch.full((len(texts), length), -1)
    for row, (before, after) in enumerate(found_slots):
        slot[row, before] = torch.arange(len(before))
        slot[row, after] = most + torch.arange(len(after))
    return PromptTexts(
        batch=TextBatch(input_ids=ids, mask=mask),
        slot=slot,
        before=most,
        slots=most + max(len(after) for _, after in found_slots),
    )


def text_tower(model: LanguageModel, name: TowerName) -> TextTower:
    """The frozen tower that prompts go through: the student, or for English names the teacher's own."""
    if name == "teacher" or model.student is None:
        teacher = model.teacher
        label = teacher.source.label if name == "teacher" else model.label
        module = teacher.module.eval().requires_grad_(False)
        return TextTower(
            label=label,
            tokenizer=teacher.tokenizer,
            embedding=_token_table(getattr(module, "text_model", module), len(teacher.tokenizer), label),
            forward=teacher.text_features,
            max_tokens=teacher.max_tokens,
            prefix=teacher.prefix,
            fixed_tokens=teacher.fixed_tokens,
            clean=cleaner(module.config, teacher.tokenizer),
        )
    student = model.student.eval().requires_grad_(False)
    text_model = student.text_model

    def forward(batch: TextBatch) -> Tensor:
        states = normed(text_model.states(batch, student.layers))
        embedding: Tensor = student.adapter(states, batch.mask.to(states.device))
        return embedding

    return TextTower(
        label=model.label,
        tokenizer=text_model.tokenizer,
        embedding=_token_table(text_model.encoder, len(text_model.tokenizer), model.label),
        forward=forward,
        max_tokens=text_model.max_tokens,
        prefix=text_model.prefix,
    )


def _token_table(module: nn.Module, vocabulary: int, label: str) -> nn.Embedding:
    """The table that turns token ids into embeddings: the largest one that holds the whole vocabulary."""
    tables = [item for item in module.modules() if isinstance(item, nn.Embedding)]
    fitting = [table for table in tables if table.num_embeddings >= vocabulary]
    if not fitting:
        raise ModelError(f"{label}: no token embeddings found in it; learned prompts cannot enter")
    return max(fitting, key=lambda table: table.num_embeddings)


@dataclass(frozen=True, kw_only=True)
class PromptClassifier:
    """A frozen text tower, class names in a template, and the learned offsets to the template.

    `classes [C]` int64 says which trained class each name is; -1 for one that was not trained.
    """

    tower: TextTower
    learner: PromptLearner
    texts: PromptTexts
    classes: Tensor
    chunk_texts: int
    rescored_classes: int

    @property
    def sees_images(self) -> bool:
        """Whether prompts depend on the image: scoring then costs `rescored_classes` text passes each."""
        return self.learner.instance is not None

    def class_rows(self) -> Tensor:
        """Unit rows `[C, D]` of all classes, without an instance context."""
        slots = self.learner(self.classes, None)
        return self._embed(torch.arange(len(self.classes)), slots)

    def image_rows(self, candidates: Tensor, patches: Tensor) -> Tensor:
        """Unit rows `[B, K, D]` of some classes for each image, from `patches [B, P, V]`.

        `candidates [B, K]` int64 are places among this classifier's classes.
        """
        slots = self.learner(self.classes[candidates], patches).flatten(0, 1)
        return self._embed(candidates.flatten(), slots).view(*candidates.shape, -1)

    @torch.inference_mode()
    def scores(self, images: Tensor, patches: Tensor | None) -> Tensor:
        """Cosines `[N, C]` of images and classes.

        Where prompts depend on the image, its best `rescored_classes` classes are scored with its own
        instance context and the others without one.

        `images [N, D]` float32 are unit rows; `patches [N, P, V]` are needed where prompts see the image.
        """
        self.learner.eval()
        out = F.normalize(images, dim=-1) @ self.class_rows().cpu().T
        if not self.sees_images:
            return out
        assert patches is not None
        best = out.topk(min(self.rescored_classes, len(self.classes)), dim=1).indices
        at_once = max(1, self.chunk_texts // best.shape[1])
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            rows = self.image_rows(best[part], patches[part]).cpu()
            out[part] = out[part].scatter(1, best[part], torch.einsum("bd,bkd->bk", images[part], rows))
        return out

    def with_names(self, template: str, labels: list[str], classes: Tensor) -> "PromptClassifier":
        """The same learned contexts for other class names; `classes` as in the class."""
        texts, before = prompt_texts(self.tower, template, labels), self.texts.before
        # Slots are counted as where `before` of them stand in front; what has no place there is left alone.
        behind = texts.slot >= texts.before
        slot = torch.where(behind, texts.slot - texts.before + before, texts.slot)
        slot = slot.masked_fill(~behind & (texts.slot >= before), -1)
        return replace(self, texts=replace(texts, slot=slot), classes=classes)

    def _embed(self, rows: Tensor, slots: Tensor) -> Tensor:
        """Unit rows of prompts: `rows [N]` places among the texts, `slots [N, S, H]` their offsets."""
        device = slots.device

        def some(part: Tensor, offsets: Tensor) -> Tensor:
            return self.tower.embed(self.texts.batch.rows(part), self.texts.offsets(part.to(device), offsets))

        chunks = torch.split(rows, self.chunk_texts), torch.split(slots, self.chunk_texts)
        parts = list(zip(*chunks, strict=True))
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([some(*part) for part in parts])
        # Only one chunk's activations at a time: the others are computed again on the way back.
        return torch.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])


Encode = Callable[[list[str]], Tensor]


def class_embeddings(names: Sequence[Sequence[str]], templates: Sequence[str], encode: Encode) -> Tensor:
    """Mean `[C, D]` float32 of the unit rows of every name in every template, normalised again.

    Each of C classes has one name or several synonyms, each template a `{label}`; several templates are an
    ensemble. `encode` maps B texts to `[B, D]` unit rows.

    Source: the ensemble of Radford et al., 2021, section 3.1.4.
    """
    texts = [t.replace("{label}", name) for synonyms in names for name in synonyms for t in templates]
    owner = torch.tensor([c for c, synonyms in enumerate(names) for _ in synonyms for _ in templates])
    rows = encode(texts)
    sums = torch.zeros(len(names), rows.shape[1]).index_add_(0, owner, rows)
    return F.normalize(sums, dim=-1)


def prompts_label(templates: Sequence[str]) -> str:
    """How templates stand in a signature: their number and a digest."""
    kind = "single" if len(templates) == 1 else f"ensemble-{len(templates)}"
    return f"{kind}@{fingerprint(*templates)[:8]}"
