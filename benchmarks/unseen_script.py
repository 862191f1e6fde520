"""A script that the tokenizer has never seen, with and without new pieces, on the embedded world.

python benchmarks/unseen_script.py

Both runs use the recipe of the world's other languages; the second also sets text_model.extend_vocabulary.
"""

import argparse
import json
import sys
from pathlib import Path

from langadapt.cli.evaluate import available_sets, score
from langadapt.cli.progress import progress_report
from langadapt.models import load
from langadapt.quickstart.world import write_world
from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill
from tools.embedded_world.unseen_script import write_unseen_script


def main() -> None:
    """Prints one JSON line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/unseen-script"), help="world and runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for both runs")
    parser.add_argument("--pieces", type=int, default=600, help="new pieces at most")
    parser.add_argument("--only", choices=["without", "with"], help="one of the two runs")
    arguments = parser.parse_args()
    world = write_world(arguments.folder / "world")
    found = find_language(str(write_unseen_script(world)))
    extension = f"text_model.extend_vocabulary={{pieces: {arguments.pieces}}}"
    for name, more in {"without": [], "with": [extension]}.items():
        if arguments.only not in (None, name):
            continue
        settings = [*arguments.set, *more]
        out = arguments.folder / name
        with progress_report() as report:
            artifact = distill(
                override(found, settings), out, report=report, options=RunOptions(overwrite=True)
            )
        model = load(out)
        (scored,) = score(model, available_sets(model.artifact.recipe), run=str(out))
        card = scored.card
        row = {
            "settings": settings,
            "retention": round(card.retention or 0.0, 3),
            **{key: round(getattr(card, key).mr6, 1) for key in ("student", "ceiling", "floor")},
            **{key: artifact.training[key] for key in ("trained_parameters", "new_pieces", "seconds")},
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
