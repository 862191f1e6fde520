"""Embedding rows on a grid on which every dot product is exact."""

import torch
from torch import Tensor

from langadapt.errors import DataError

# Components are multiples of 2**-25 and rows have norm 1, so products are multiples of 2**-50 and no partial
# sum exceeds about 1: all fit into the 53 bits of float64. The sum is then the same in whatever order and in
# whatever tile it is taken. The grid moves a score by about 1e-8, less than float32 can show near 1.
_GRID = 2.0**25
_ROWS = 4096


def exact_unit_rows(rows: Tensor, name: str) -> Tensor:
    """Rows of length 1 whose dot products float64 computes without any rounding.

    Args:
        rows: `[N, D]` floating point, finite, no zero row; not necessarily normalised.
        name: what the rows are, for the error.

    Returns:
        `[N, D]` float32, each component a multiple of 2^-25.

    Raises:
        DataError: not a matrix of floats, no row, NaN or inf, a row of zeros.
    """
    if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
        raise DataError(
            f"{name} embeddings: expected a float matrix with rows, got {rows.dtype} {list(rows.shape)}"
        )
    rows = rows.detach()
    blocks = torch.split(rows, _ROWS)  # nothing as large as all rows is made but the answer
    finite = torch.cat([block.isfinite().all(dim=1) for block in blocks])
    if not finite.all():
        raise DataError(
            f"{name} embeddings: row {_first(~finite)} has NaN or inf; a broken model has no score"
        )
    largest = torch.cat([block.abs().amax(dim=1, keepdim=True) for block in blocks]).double()
    if not (largest > 0).all():
        raise DataError(
            f"{name} embeddings: row {_first(largest[:, 0] == 0)} is all zeros and has no direction"
        )
    unit = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    for start, rows_there in zip(range(0, len(rows), _ROWS), blocks, strict=True):
        block = rows_there.double() / largest[start : start + _ROWS]
        unit[start : start + _ROWS] = block / block.norm(dim=1, keepdim=True)
    return unit.mul_(_GRID).round_().div_(_GRID)


def _first(flags: Tensor) -> int:
    return int(flags.nonzero()[0, 0])
