"""A frozen text tower over many texts: order, batches, threads, packing, precision.

Reference for all of it is the plain forward pass of transformers: packed float32 answers equal it to
rounding, bfloat16 ones to a cosine of 0.9995.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import chain, islice
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.tokens import PackedBatch, Tokens, by_length, in_order, send
from langadapt.models.families import HalfLayers, family_of
from langadapt.models.load import uses_bf16
from langadapt.models.towers import Layers, chosen_layers, chosen_states

TextPath = Literal["packed", "padded"]
"""`packed`: several texts in a row, hardly padding; `padded`: transformers' own forward pass."""

_CPU_TOKENS, _GPU_TOKENS, _SMALL_GPU_TOKENS, _SMALL_GPU_BYTES = 2048, 32_768, 8192, 16e9


def forward_tokens(device: torch.device) -> int:
    """Tokens of a forward pass: enough for the matrix units; on a CPU few enough for the caches, too."""
    if device.type != "cuda":
        return _CPU_TOKENS
    is_small = torch.cuda.get_device_properties(device).total_memory < _SMALL_GPU_BYTES
    return _SMALL_GPU_TOKENS if is_small else _GPU_TOKENS


Item = TypeVar("Item")
Result = TypeVar("Result")
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FrozenText:
    """A text tower whose weights do not change: the teacher's, a text model's, or a student's."""

    tokenize: Callable[[Sequence[str]], Tokens]
    run: Callable[..., Tensor]
    """Tokens and row numbers to normalised embeddings `[len(rows), D]`, or to hidden states `[N, L, H]` of
    their N tokens. Without `exact` in bfloat16 where the device is faster in it."""
    path: TextPath
    dim: int
    device: torch.device
    fixed_tokens: int | None = None
    """Length that the tower pads every text to; None where it masks or ignores padding."""

    @property
    def description(self) -> str:
        """Path and precision, for people."""
        packed = self.path == "packed"
        how = "texts packed, several in a row" if packed else "transformers' own forward pass, padded"
        return f"{how}, {'bfloat16' if uses_bf16(self.device) else 'float32'}"

    def lengths(self, tokens: Tokens) -> Rows:
        """Tokens that each text is to the tower, int64 `[len(tokens)]`."""
        return tokens.lengths if self.fixed_tokens is None else np.full(len(tokens), self.fixed_tokens)

    def store_order(self, tokens: Tokens) -> tuple[Tokens, Rows]:
        """Texts as a store holds them, and the index of each in it (int64 `[len(tokens)]`).

        Padded batches are cut from texts sorted by length; packed ones want neighbours of many lengths.
        """
        return tokens.by_length() if self.path == "padded" else (tokens, np.arange(len(tokens)))

    def in_store_order(
        self, tokens: Tokens, *, first: int, convert: Callable[[Tensor], Tensor] = Tensor.contiguous
    ) -> Iterator[tuple[Rows, Tensor]]:
        """Row numbers and converted answers of texts from `first` on, as `store_order` has put them."""
        batches = in_order(self.lengths(tokens), batch_tokens=forward_tokens(self.device), first=first)

        @torch.inference_mode()
        def answer(rows: Rows) -> tuple[Rows, Tensor]:
            return rows, convert(self._run_what_fits(tokens, rows))

        yield from map_batches_threaded(answer, batches, self.device)

    def _run_what_fits(self, tokens: Tokens, rows: Rows, *, exact: bool = False) -> Tensor:
        """Out-of-memory recovery: halve a batch until it fits."""
        try:
            return self.run(tokens, rows, exact=exact)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        # Outside the handler: the error holds the tensors of the failed try.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        halves = np.array_split(rows, 2)
        return torch.cat([self._run_what_fits(tokens, half, exact=exact) for half in halves])

    def embed(self, texts: Sequence[str], *, exact: bool = False, batch_tokens: int | None = None) -> Tensor:
        """Embed texts, none empty, in their order: `[len(texts), D]` float32, normalised, on the CPU.

        `exact`: float32 throughout. A forward pass has `batch_tokens` tokens; by default as suits the device.
        """
        tokens = self.tokenize(texts)
        out = torch.zeros(len(texts), self.dim)
        cut = in_order if self.path == "packed" else by_length
        batches = cut(self.lengths(tokens), batch_tokens=batch_tokens or forward_tokens(self.device))

        @torch.inference_mode()
        def answer(rows: Rows) -> tuple[Rows, Tensor]:
            return rows, self._run_what_fits(tokens, rows, exact=exact).cpu()

        for rows, embedded in map_batches_threaded(answer, batches, self.device):
            out[torch.from_numpy(np.ascontiguousarray(rows))] = embedded
        return out


_WORKERS, _CUDA_WORKERS = 8, 3
"""More Python threads than these wait for each other. A GPU has one queue of work, filled in turn."""


def map_batches_threaded(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Results of `work` in the order of the items, which are taken as they are needed, a few ahead.

    A core that has a batch for itself waits for nobody. Cores that share every operation wait for one another
    at its end, the longer the more another program disturbs one of them. The first item, and few ones, run on
    all cores. For a CUDA device a few threads lay out batches and launch work in turn, so that it has always
    some; elsewhere one item runs after the other. `work` sets by itself what belongs to a thread (inference
    mode).
    """
    threads = torch.get_num_threads()
    each = -(-threads // _WORKERS)
    workers = _CUDA_WORKERS if device.type == "cuda" else threads // each
    left = iter(items)
    soon = list(islice(left, 2 * workers))
    if device.type not in ("cpu", "cuda") or workers == 1 or len(soon) < 2 * workers:
        yield from map(work, chain(soon, left))
        return
    yield work(soon[0])  # alone: it may make what the others share
    started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread's first question would undo what was set before it
        torch.set_num_threads(each)
        started.wait()

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        with ExitStack() as undo:
            undo.callback(started.abort)  # a thread that cannot start, or Ctrl-C: the others must not wait
            for _ in range(workers):
                pool.submit(start)
            started.wait()
            undo.pop_all()
        torch.set_num_threads(threads)  # threads that begin from now on have what they had before
        try:
            for item in chain(soon[1:], left):
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def text_path(encoder: nn.Module) -> TextPath:
    """How a text encoder runs now.

    Not packed with an attention that somebody else chose, which may read the mask in its own way.
    """
    config: Any = encoder.config
    packed = family_of(config).packed and config._attn_implementation == "sdpa"
    return "packed" if packed else "padded"


def packed_states(encoder: nn.Module, batch: PackedBatch, layers: Layers) -> list[Tensor]:
    """Hidden states `[R, W, H]` of a packed batch, of the layers that `layers` means (see `Layers`)."""
    module: Any = encoder
    config = module.config
    mask: Any = _packed_mask(encoder, batch, causal=False)
    ids, positions = send(batch.ids, mask.device), send(_positions(config, batch), mask.device)
    options = {"input_ids": ids, "position_ids": positions}
    if _has_token_types(type(encoder).forward):
        # Some families would look theirs up by position.
        options["token_type_ids"] = torch.zeros_like(ids)
    fused = getattr(getattr(module, "encoder", None), "layer", None)
    if isinstance(fused, HalfLayers):
        first = module.embeddings(**options)
        states = [first, *(state.view_as(first) for state in fused(first, mask))]
        return chosen_layers(states, layers)
    if family_of(config).mask == "sliding":
        place = torch.arange(mask.shape[-1], device=mask.device)
        far = (place[:, None] - place).abs() > config.sliding_window
        mask = {"full_attention": mask, "sliding_attention": mask.masked_fill(far, -torch.inf)}
    output = module(attention_mask=mask, output_hidden_states=layers != "last", **options)
    return chosen_states(output, layers)


@cache
def _has_token_types(forward: Callable[..., Any]) -> bool:
    return "token_type_ids" in signature(forward).parameters


def _packed_mask(module: nn.Module, batch: PackedBatch, *, causal: bool) -> Tensor:
    """The mask of a batch on the device and of the dtype of a module's weights."""
    return batch.mask(causal=causal, like=next(module.parameters()))


def _on_cuda(module: nn.Module) -> bool:
    return next(module.parameters()).is_cuda


def _positions(config: Any, batch: PackedBatch) -> Tensor:
    if family_of(config).positions == "from zero":
        return batch.positions
    # The tokens of a text that are padding's own (a text may spell "<pad>") take no position.
    real = (batch.ids != config.pad_token_id).long()
    first = torch.arange(batch.ids.shape[1]) - batch.positions
    before = (real.cumsum(dim=1) - real).gather(1, first)
    positions: Tensor = (real.cumsum(dim=1) - before) * real + config.pad_token_id
    return positions


def text_parts(module: nn.Module) -> nn.ModuleDict:
    """What of an image-text model embeds texts, without the image tower."""
    names = ("text_model", "text_projection")
    return nn.ModuleDict({name: module.get_submodule(name) for name in names})


def packed_embeddings(parts: nn.ModuleDict, tokens: Tokens, rows: Rows) -> Tensor:
    """Embed some texts as `get_text_features` does: `[len(rows), D]`, not normalised."""
    text_model = parts["text_model"]
    config: Any = text_model.config
    if family_of(config).mask == "causal":
        pooled = _clip_end_states(text_model, tokens, rows)
    else:
        batch = tokens.packed(rows, few_shapes=_on_cuda(text_model))
        (states,) = packed_states(text_model, batch, "last")
        pooled = states.flatten(0, 1)[send(torch.from_numpy(batch.rows.starts), states.device)]
    embedded: Tensor = parts["text_projection"](pooled)
    return embedded


def _clip_end_states(text_model: Any, tokens: Tokens, rows: Rows) -> Tensor:
    """State of each text's end token after CLIP's last norm, `[B, H]`."""
    batch = tokens.packed(rows, few_shapes=_on_cuda(text_model))
    mask = _packed_mask(text_model, batch, causal=True)
    device = mask.device
    embeddings = text_model.embeddings
    # Not its own forward pass: it refuses a row of more positions than one text may have tokens.
    states = embeddings.token_embedding(send(batch.ids, device))
    states = states + embeddings.position_embedding(send(batch.positions, device))
    ids, end_id = tokens.batch(rows).input_ids, text_model.eos_token_id
    # Configurations of the first CLIP models name a wrong end token; theirs is the highest number there is.
    end = (ids if end_id == 2 else (ids == end_id).int()).argmax(dim=1)
    ends = send(torch.from_numpy(batch.rows.starts) + end, device)
    layers = text_model.encoder.layers
    if isinstance(layers, HalfLayers):
        at_ends = layers(states, mask, only=ends)[-1]
    else:
        for layer in layers:
            states = layer(states, mask, is_causal=False)
        at_ends = states.flatten(0, 1)[ends]
    out: Tensor = text_model.final_layer_norm(at_ends)
    return out
