"""Times retrieval scoring: langadapt's ranks beside a full matrix that is sorted, or asked for its best ten.

    python benchmarks/scoring.py --images 5000 --texts 25000
    python benchmarks/scoring.py --images 31000 --texts 155000 --methods langadapt

Random unit rows, each image with its share of the texts. Every method runs in a process of its own, in turns;
seconds are processor seconds of scoring alone, memory is the process's peak, the imports and both matrices of
embeddings included. `product` is the matrix product that no method can avoid.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from langadapt.metrics.ranks import Positives, positive_ranks


def argsort(text: Tensor, image: Tensor, owner: Tensor) -> list[float]:
    """R@1, R@5, R@10 of texts, then of images, by sorting all candidates of each query."""
    scores = text @ image.T
    hits = scores.argsort(dim=1, descending=True) == owner[:, None]
    found = [100 * float(hits[:, :k].any(dim=1).float().mean()) for k in (1, 5, 10)]
    del hits
    order = scores.T.argsort(dim=1, descending=True)
    hits = owner[order[:, :10]] == torch.arange(len(image))[:, None]
    return found + [100 * float(hits[:, :k].any(dim=1).float().mean()) for k in (1, 5, 10)]


def topk(text: Tensor, image: Tensor, owner: Tensor) -> list[float]:
    """The same by the best ten of each query."""
    scores = text @ image.T
    to_image = scores.topk(10, dim=1).indices == owner[:, None]
    to_text = owner[scores.topk(10, dim=0).indices.T] == torch.arange(len(image))[:, None]
    return [
        100 * float(hits[:, :k].any(dim=1).float().mean()) for hits in (to_image, to_text) for k in (1, 5, 10)
    ]


def langadapt(text: Tensor, image: Tensor, owner: Tensor) -> list[float]:
    """The same by counting."""
    ranks = positive_ranks(text, image, positives=Positives(text=torch.arange(len(text)), image=owner))
    return [100 * float((found <= k).float().mean()) for found in (ranks.t2i, ranks.i2t) for k in (1, 5, 10)]


def product(text: Tensor, image: Tensor, owner: Tensor) -> list[float]:
    """Nothing but the float32 product, in tiles."""
    for start in range(0, len(text), 512):
        text[start : start + 512] @ image.T
    return []


METHODS = {"langadapt": langadapt, "topk": topk, "argsort": argsort, "product": product}


def run(method: str, images: int, texts: int, dim: int) -> dict[str, object]:
    """One method in this process."""
    draws = torch.Generator().manual_seed(0)
    image = F.normalize(torch.randn(images, dim, generator=draws), dim=1)
    owner = torch.arange(texts) % images
    text = torch.empty(texts, dim)
    for start in range(0, texts, 4096):
        near = image[owner[start : start + 4096]]
        noise = torch.randn(near.shape, generator=draws) * dim**-0.5
        text[start : start + 4096] = F.normalize(near + 5 * noise, dim=1)
    began = time.process_time()
    recalls = METHODS[method](text, image, owner)
    return {
        "method": method,
        "seconds": round(time.process_time() - began, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "recalls": [round(value, 2) for value in recalls],
    }


def main() -> None:
    """Alternates the methods and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--texts", type=int, default=25000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=list(METHODS), help="this method, in this process")
    parser.add_argument("--out", type=Path, default=Path("scoring.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.only:
        sys.stdout.write(json.dumps(run(given.only, given.images, given.texts, given.dim)) + "\n")
        return
    runs: dict[str, list[dict[str, object]]] = {method: [] for method in given.methods}
    for number in range(given.rounds):
        for method in given.methods if number % 2 == 0 else reversed(given.methods):
            done = subprocess.run(
                [sys.executable, __file__, "--only", method, *sys.argv[1:]],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            runs[method].append(json.loads(done.stdout))
            sys.stderr.write(done.stdout)
        given.out.write_text(
            json.dumps({**vars(given), "out": str(given.out), "runs": runs}, indent=2) + "\n"
        )
    sys.stdout.write("| method | seconds | times langadapt's, min / median / max | peak MB | recalls |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    own = [float(str(line["seconds"])) for line in runs[given.methods[0]]]
    for method, lines in runs.items():
        spent = [float(str(line["seconds"])) for line in lines]
        ratios = [a / b for a, b in zip(spent, own, strict=True)]
        shown = " / ".join(f"{value:.2f}" for value in (min(ratios), statistics.median(ratios), max(ratios)))
        last = lines[-1]
        cells = [method, f"{statistics.median(spent):.2f}", shown, str(last["peak_mb"]), str(last["recalls"])]
        sys.stdout.write("| " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
