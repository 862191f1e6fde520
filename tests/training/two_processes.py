"""Two processes that train together, started by hand as a launcher would; one import serves both.

Arguments: folder of the recipe, distilled student, pairs, folder of the results, port, what each process sets
in the recipe. They distil `distilled`, tune the student to `tuned` and adapt it to `hard`.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import run
from tiny_tune import domain_stage, every_epoch_is_better, stage, tuned
from torch import multiprocessing, nn

from langadapt.models import Student
from langadapt.nn.losses import gather_rows

BOTH = {"text": ["head"], "image": ["layer_norm", "projection"], "batch_size": 12, "chunk_size": 4}
HARD = {
    "text": ["head"],
    "image": "locked",
    "batch_size": 12,
    "sampling": {"difficulty": "chance", "strength": 1.0},
}
BATCH = torch.arange(12, dtype=torch.float32).view(4, 3)


def train(
    rank: int, recipe: Path, start: Path, pairs: Path, out: Path, port: str, settings: list[str]
) -> None:
    torch.set_num_threads(1)
    every_epoch_is_better(pytest.MonkeyPatch())  # all processes, and the one beside them, keep the same epoch
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    shown: list[str] = []
    rows: list[int] = []

    def count(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, Student) and module.training:
            rows.append(len(output))

    counting = nn.modules.module.register_module_forward_hook(count)
    distilled = run(recipe, out / "distilled", *settings, report=lambda p: shown.append(p.stage))
    counting.remove()
    told = {"training": distilled.training, "reports": len(shown), "rows": rows}
    both = tuned(start, out / "tuned", stage(pairs, **BOTH))
    hard = tuned(start, out / "hard", domain_stage(pairs, **HARD))
    # Adam hides a wrong factor, so the gradients themselves are looked at.
    mine = BATCH[2 * rank : 2 * rank + 2].clone().requires_grad_()
    (gather_rows(mine) ** 3).sum().backward()
    told["gradient"] = mine.grad.tolist()
    told |= {"digests": [distilled.digest, both.digest, hard.digest], "domain": hard.training["domain"]}
    (out / f"process-{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    *folders, free_port = sys.argv[1:6]
    multiprocessing.start_processes(
        train, args=(*map(Path, folders), free_port, sys.argv[6:]), nprocs=2, start_method="fork"
    )
