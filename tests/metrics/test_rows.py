"""The property on which exact ranks rest."""

from fractions import Fraction

import pytest
import torch

from langadapt.metrics.ranks import exact_unit_rows


@pytest.mark.parametrize("width", [3, 512])
def test_dot_products_have_no_rounding(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = exact_unit_rows(torch.randn(6, width, generator=generator), "text")
    rows[0] = exact_unit_rows(torch.ones(1, width), "text")
    products = rows.double() @ rows.double().T
    for a, left in enumerate(rows.tolist()):
        for b, right in enumerate(rows.tolist()):
            truth = sum((Fraction(x) * Fraction(y) for x, y in zip(left, right, strict=True)), Fraction())
            assert Fraction(float(products[a, b])) == truth


def test_rows_are_unit_rows_in_the_same_direction() -> None:
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = exact_unit_rows(rows, "text")
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.double(), rows / rows.norm(dim=1, keepdim=True), rtol=0, atol=2.0**-25)


def test_the_input_is_left_alone() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    exact_unit_rows(rows, "text")
    assert rows.tolist() == [[3.0, 4.0]]
