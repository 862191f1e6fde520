"""The rank of the best positive, for texts among images and for images among texts, in one tiled pass."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.errors import DataError

# Texts scored at a time; a tile holds this many scores per image. A GPU wants larger tiles: this many scores.
_TILE_ROWS, _GPU_TILE = 512, 1 << 27
_DOUBTFUL = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Positives:
    """Which text belongs to which image, as a list of P pairs without repeats."""

    text: Tensor
    """`[P]` int64, row of the text."""
    image: Tensor
    """`[P]` int64, row of the image."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """1 is best. `t2i [T]` and `i2t [I]`, int64."""

    t2i: Tensor
    i2t: Tensor


def positive_ranks(
    text: Tensor, image: Tensor, *, positives: Positives, device: torch.device | None = None
) -> Ranks:
    """Rank each query's best positive, in both directions.

    The rank is 1 + the number of other candidates that score at least as high as the best positive: ties
    count against the model, the query's other positives are left out. Scores are cosines, summed exactly and
    rounded to float32 (in effect, see `_Tile`), so equal rows tie and neither tile size nor row order moves a
    rank. Rows of `text [T, D]` and `image [I, D]` are floating point, of any length, on the CPU. A CUDA
    `device` scores them; the ranks are the same ones.

    Raise a DataError where widths differ, a row is zero or not finite, a text or an image has no positive.
    """
    if text.ndim == image.ndim == 2 and text.shape[1] != image.shape[1]:
        raise DataError(f"text embeddings are {text.shape[1]} wide, image embeddings {image.shape[1]}")
    texts, images = exact_unit_rows(text, "text"), exact_unit_rows(image, "image")
    _check_pairs(positives, len(texts), len(images))

    pair_scores = torch.cat(
        [
            _exact_scores(texts[t], images[i])
            for t, i in zip(_blocks(positives.text), _blocks(positives.image), strict=True)
        ]
    )
    best_of_text = _best(pair_scores, positives.text, len(texts))
    best_of_image = _best(pair_scores, positives.image, len(images))

    # 1 - (own positives at least as high as the best of them) + (all candidates at least as high)
    t2i = 1 - torch.bincount(
        positives.text[pair_scores >= best_of_text[positives.text]], minlength=len(texts)
    )
    i2t = 1 - torch.bincount(
        positives.image[pair_scores >= best_of_image[positives.image]], minlength=len(images)
    )
    count = _TILE_ROWS
    if there := device is not None and device.type == "cuda":
        # What is scored is rounded on the CPU in either case, so that it is the same to the last bit.
        count, images = max(1, _GPU_TILE // len(images)), images.to(device)
    for start in range(0, len(texts), count):
        rows = slice(start, start + count)
        kind = _DeviceTile if there else _Tile
        tile = kind(text=texts[rows].to(images.device), image=images)
        t2i[rows] += tile.reached(best_of_text[rows, None], axis=1)
        i2t += tile.reached(best_of_image[None], axis=0)
    return Ranks(t2i=t2i, i2t=i2t)


def _margin(dim: int) -> float:
    # D rounded products and sums of rows of norm 1, in whatever order (Higham, 2002, eq. 3.7); the exact
    # score and the bounds are rounded besides.
    return float((dim + 8) * 2.0**-24)


def _exact_scores(text: Tensor, image: Tensor) -> Tensor:
    return (text.double() * image.double()).sum(dim=1).float()


class _Tile:
    """Scores of some texts with all images, `[t, D]` and `[I, D]` as of `exact_unit_rows`, compared exactly.

    A float32 product decides almost every comparison: it differs from the exact score by less than a known
    margin. The pairs that come nearer to their bound are summed exactly; where they are many (a model that
    says the same of everything) the whole tile is.
    """

    def __init__(self, *, text: Tensor, image: Tensor) -> None:
        self.text, self.image = text, image
        # NumPy compares and counts bools several times faster than torch does.
        self.scores: NDArray[np.float32] = _product(text, image).numpy()
        self.exact = False
        if torch.get_float32_matmul_precision() != "highest":  # TF32 or bfloat16 exceeds the margin
            self._sum_exactly()

    def reached(self, bound: Tensor, *, axis: int) -> Tensor:
        """How many scores reach `bound`, float32 `[t, 1]` or `[1, I]`, summed over `axis`."""
        hits = self._at_least(bound.numpy())
        return torch.from_numpy(hits.view(np.uint8).sum(axis=axis, dtype=np.int32))

    def _at_least(self, bound: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which scores reach the bound: bool `[t, I]`."""
        if not self.exact:
            margin = np.float32(_margin(self.text.shape[1]))
            sure: NDArray[np.bool_] = self.scores >= bound + margin
            doubtful = self.scores >= bound - margin
            doubtful ^= sure
            if np.count_nonzero(doubtful) <= doubtful.size // 64:
                wanted = np.broadcast_to(bound, sure.shape)
                for block in _blocks(torch.from_numpy(np.flatnonzero(doubtful))):
                    text, image = (torch.from_numpy(x) for x in np.divmod(block.numpy(), sure.shape[1]))
                    scores = _exact_scores(self.text[text], self.image[image])
                    sure[text, image] = scores.numpy() >= wanted[text, image]
                return sure
            self._sum_exactly()
        reached: NDArray[np.bool_] = self.scores >= bound
        return reached

    def _sum_exactly(self) -> None:
        for start in range(0, len(self.image), 4096):
            part = slice(start, start + 4096)
            self.scores[:, part] = (self.text.double() @ self.image[part].double().T).float().numpy()
        self.exact = True


class _DeviceTile:
    """What `_Tile` is, by operations of a device."""

    def __init__(self, *, text: Tensor, image: Tensor) -> None:
        self.text, self.image = text, image
        self.scores = _product(text, image)
        self.exact = False
        if torch.get_float32_matmul_precision() != "highest":
            self._sum_exactly()

    def reached(self, bound: Tensor, *, axis: int) -> Tensor:
        """How many scores reach `bound`, float32 `[t, 1]` or `[1, I]`, summed over `axis`; on the CPU."""
        return self._at_least(bound.to(self.scores.device)).sum(dim=axis).cpu()

    def _at_least(self, bound: Tensor) -> Tensor:
        if not self.exact:
            margin = _margin(self.text.shape[1])
            sure = self.scores >= bound + margin
            pairs = ((self.scores >= bound - margin) ^ sure).nonzero()
            if len(pairs) <= sure.numel() // 64:
                wanted = bound.expand_as(sure)
                for block in torch.split(pairs, _DOUBTFUL):
                    text, image = block.unbind(dim=1)
                    scores = _exact_scores(self.text[text], self.image[image])
                    sure[text, image] = scores >= wanted[text, image]
                return sure
            self._sum_exactly()
        return self.scores >= bound

    def _sum_exactly(self) -> None:
        wide = self.text.double()
        for start in range(0, len(self.image), 4096):
            part = slice(start, start + 4096)
            self.scores[:, part] = (wide @ self.image[part].double().T).float()
        self.exact = True


def _product(text: Tensor, image: Tensor) -> Tensor:
    return text @ image.T


def _best(pair_scores: Tensor, query: Tensor, queries: int) -> Tensor:
    start = pair_scores.new_full((queries,), float("-inf"))
    return start.scatter_reduce(0, query, pair_scores, reduce="amax")


def _blocks(rows: Tensor) -> list[Tensor]:
    return [rows[start : start + 2048] for start in range(0, len(rows), 2048)]


def _check_pairs(positives: Positives, texts: int, images: int) -> None:
    if len(positives.text) != len(positives.image):
        raise DataError(f"positives: {len(positives.text)} text rows, {len(positives.image)} image rows")
    for name, rows, count in (("text", positives.text, texts), ("image", positives.image, images)):
        if rows.dtype != torch.int64 or rows.ndim != 1 or len(rows) == 0:
            got = f"{rows.dtype} {list(rows.shape)}"
            raise DataError(f"positives: {name} rows must be an int64 vector, got {got}")
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= count:
            raise DataError(f"positives: {name} rows must lie in 0 to {count - 1}, got {low} to {high}")
        lonely = torch.bincount(rows, minlength=count) == 0
        if lonely.any():
            raise DataError(f"positives: {name} {int(lonely.nonzero()[0, 0])} belongs to nothing")


# Components are multiples of 2**-25 and rows have norm 1, so products are multiples of 2**-50 and no partial
# sum exceeds about 1: all fit into the 53 bits of float64. The sum is then the same in whatever order and in
# whatever tile it is taken. The grid moves a score by about 1e-8, less than float32 can show near 1.
_GRID = 2.0**25
_ROWS = 4096


def exact_unit_rows(rows: Tensor, name: str) -> Tensor:
    """Rows `[N, D]` float32 of length 1 whose dot products float64 computes without any rounding.

    Each component is a multiple of 2^-25. `rows` are floating point, of any length; `name` says what they
    are. Raise a DataError for anything but a matrix of finite floats without a row of zeros.
    """
    if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
        got = f"{rows.dtype} {list(rows.shape)}"
        raise DataError(f"{name} embeddings: expected a float matrix with rows, got {got}")
    rows = rows.detach()
    blocks = torch.split(rows, _ROWS)  # nothing as large as all rows is made but the answer
    finite = torch.cat([block.isfinite().all(dim=1) for block in blocks])
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise DataError(f"{name} embeddings: row {row} has NaN or inf; a broken model has no score")
    largest = torch.cat([block.abs().amax(dim=1, keepdim=True) for block in blocks]).double()
    if not (largest > 0).all():
        row = int((largest == 0).nonzero()[0, 0])
        raise DataError(f"{name} embeddings: row {row} is all zeros and has no direction")
    unit = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start, rows_there in zip(range(0, len(rows), _ROWS), blocks, strict=True):
        block = rows_there.double() / largest[start : start + _ROWS]
        unit[start : start + _ROWS] = block / block.norm(dim=1, keepdim=True)
    return unit.mul_(_GRID).round_().div_(_GRID)
