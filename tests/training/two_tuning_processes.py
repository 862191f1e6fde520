"""Two processes that tune one student, as `two_processes.py` distils one.

Arguments: start folder, run folder, pairs, port. The run for a domain lies beside it, its name ends in -hard.
"""

import json
import os
import sys
from pathlib import Path

import torch
from tiny_tune import domain_stage, stage, tuned
from torch import multiprocessing

BOTH = {"text": ["head"], "image": ["layer_norm", "projection"], "batch_size": 12, "chunk_size": 4}
HARD = {
    "text": ["head"],
    "image": "locked",
    "batch_size": 12,
    "sampling": {"difficulty": "chance", "strength": 1.0},
}


def train(rank: int, start: Path, out: Path, pairs: Path, port: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    artifact = tuned(start, out, stage(pairs, **BOTH))
    hard = tuned(start, out.with_name(f"{out.name}-hard"), domain_stage(pairs, **HARD))
    told = {"digest": artifact.digest, "hard": hard.digest, "domain": hard.training["domain"]}
    (out.parent / f"process-{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    begin, run_folder, table, free_port = sys.argv[1:]
    multiprocessing.start_processes(
        train,
        args=(Path(begin), Path(run_folder), Path(table), free_port),
        nprocs=2,
        start_method="fork",
    )
