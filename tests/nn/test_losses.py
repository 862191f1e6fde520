"""The losses against slow oracles written out with plain numbers."""

import math

import torch
from torch.nn import functional as F

from langadapt.nn.losses import distillation_distance, info_nce, relation_distance


def rows(seed: int, *, count: int = 6, dim: int = 5) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def slow_info_nce(student: torch.Tensor, targets: torch.Tensor, temperature: float) -> float:
    """Number by number; the same target twice is neither a positive nor a negative of the other row."""
    unit = [[x / math.hypot(*row) for x in row] for row in student.double().tolist()]
    goal = targets.double().tolist()
    total = 0.0
    for direction in ("student", "teacher"):
        for i in range(len(unit)):
            scores = {}
            for j in range(len(goal)):
                if j != i and goal[i] == goal[j]:
                    continue
                query, candidate = (unit[i], goal[j]) if direction == "student" else (unit[j], goal[i])
                scores[j] = sum(a * b for a, b in zip(query, candidate, strict=True)) / temperature
            total += math.log(sum(math.exp(s) for s in scores.values())) - scores[i]
    return total / (2 * len(unit))


def test_info_nce_equals_the_loop() -> None:
    student, targets = 3 * rows(0), F.normalize(rows(1), dim=-1)
    for temperature in (0.07, 1.0):
        expected = slow_info_nce(student, targets, temperature)
        assert math.isclose(info_nce(student, targets, temperature).item(), expected, rel_tol=1e-4)


def test_relation_distance_equals_the_loop() -> None:
    student, targets = 3 * rows(0), F.normalize(rows(1), dim=-1)
    anchors = F.normalize(rows(2, count=9), dim=-1)
    total = 0.0
    for row, goal in zip(student.double().tolist(), targets.double().tolist(), strict=True):
        length = math.hypot(*row)
        chances = []
        for vector in ([x / length for x in row], goal):
            scores = [
                math.exp(sum(a * b for a, b in zip(vector, anchor, strict=True)) / 0.2)
                for anchor in anchors.double().tolist()
            ]
            chances.append([score / sum(scores) for score in scores])
        total += sum(q * math.log(q / p) for p, q in zip(*chances, strict=True))
    assert math.isclose(relation_distance(student, targets, anchors, 0.2).item(), total / 6, rel_tol=1e-4)
    assert abs(relation_distance(2 * targets, targets, anchors, 0.2).item()) < 1e-5


def test_equal_targets_are_no_negatives() -> None:
    targets = F.normalize(rows(1), dim=-1)
    targets[3] = targets[0]
    targets[5] = targets[0]
    student = rows(0)
    expected = slow_info_nce(student, targets, 0.2)
    assert math.isclose(info_nce(student, targets, 0.2).item(), expected, rel_tol=1e-4)
    # Only copies: nothing is left to tell apart, and nothing to learn.
    copies = targets[:1].repeat(4, 1)
    loss = info_nce(student[:4].requires_grad_(), copies, 0.2)
    assert abs(loss.item()) < 1e-6


def test_near_targets_stay_negatives() -> None:
    first = F.normalize(rows(3, count=1, dim=512), dim=-1)
    near = F.normalize(first + 0.02 * F.normalize(rows(4, count=1, dim=512), dim=-1), dim=-1)
    targets = torch.cat([first, near])  # cosine 0.9998: another sentence
    assert info_nce(targets, targets, 0.05).item() > 0.6  # log 2 for two that are nearly one


def test_distances_of_known_angles() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3)
    student = torch.tensor([[5.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 0.0]])
    assert distillation_distance(student, targets, "cosine").item() == 1.0  # of 0, 1 and 2
    squared = (F.normalize(student, dim=-1) - targets).square()
    assert math.isclose(distillation_distance(student, targets, "mse").item(), squared.mean().item())
    assert squared.mean().item() == 0.5  # of 0, 2 and 4, over D = 4


def test_mse_is_the_cosine_distance_in_another_scale() -> None:
    student, targets = rows(5, dim=24), F.normalize(rows(6, dim=24), dim=-1)
    cosine = distillation_distance(student, targets, "cosine")
    torch.testing.assert_close(distillation_distance(student, targets, "mse"), 2 * cosine / 24)
    squared = (F.normalize(student, dim=-1) - targets).square().mean()
    torch.testing.assert_close(distillation_distance(student, targets, "mse"), squared)
