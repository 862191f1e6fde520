"""Two processes that train one adapter, started by hand as a launcher would; one import serves both.

Arguments: folder of the recipe, run folder, port, then what each process sets in the recipe.
"""

import json
import os
import sys
from pathlib import Path

import torch
from tiny_run import run
from torch import multiprocessing, nn

from langadapt.nn import Adapter


def train(rank: int, folder: Path, out: Path, port: str, settings: list[str]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    shown: list[str] = []
    rows: list[int] = []

    def count(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, Adapter) and module.training:
            rows.append(len(output))

    nn.modules.module.register_module_forward_hook(count)
    artifact = run(folder, out, *settings, report=lambda p: shown.append(p.stage))
    told = {"digest": artifact.digest, "training": artifact.training, "reports": len(shown), "rows": rows}
    (out.parent / f"process-{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    recipe_folder, run_folder, free_port, *changes = sys.argv[1:]
    multiprocessing.start_processes(
        train,
        args=(Path(recipe_folder), Path(run_folder), free_port, changes),
        nprocs=2,
        start_method="fork",
    )
