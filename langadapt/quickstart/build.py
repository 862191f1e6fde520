"""Builds the shipped weights: `python -m langadapt.quickstart.build`.

Trains both tiny models from their seeds, scores the teacher on the 1,000 held-out scenes and writes the
models with a record of everything that was printed.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from langadapt.metrics.retrieval import retrieval_scores
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.languages import CAPTIONS
from langadapt.quickstart.teacher import TeacherPlan, save_teacher, train_teacher
from langadapt.quickstart.text_model import TextPlan, save_text_model, train_text_model
from langadapt.quickstart.world import WEIGHTS, held_out_rows

_COMMAND = "python -m langadapt.quickstart.build"


class Record:
    """Prints lines and keeps them for the record beside the weights."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Print a line and remember it."""
        self.lines.append(line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@torch.inference_mode()
def score_teacher(folder: Path, *, record: Record) -> None:
    """Load the saved teacher and score it on the held-out scenes, in every language as it stands."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    rows = list(held_out_rows())
    images = _images(model, processor([draw(row.scene) for row in rows], return_tensors="pt")["pixel_values"])
    for language in CAPTIONS:
        batch = tokenizer([row.captions[language] for row in rows], padding=True, return_tensors="pt")
        output = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        texts = functional.normalize(model.text_projection(output.pooler_output), dim=-1)
        scores = retrieval_scores(texts, images, torch.arange(len(rows)), signature="held-out scenes")
        t2i, i2t = scores.t2i, scores.i2t
        record.say(
            f"scores: {language} t2i R@1 {t2i.r1:.1f} R@5 {t2i.r5:.1f} R@10 {t2i.r10:.1f} | "
            f"i2t R@1 {i2t.r1:.1f} R@5 {i2t.r5:.1f} R@10 {i2t.r10:.1f} | mR6 {scores.mr6:.1f}"
        )


def _images(model: CLIPModel, pixels: Tensor) -> Tensor:
    outputs = [model.vision_model(pixel_values=part).pooler_output for part in torch.split(pixels, 100)]
    return functional.normalize(model.visual_projection(torch.cat(outputs)), dim=-1)


def write_record(folder: Path, *, record: Record, seconds: float) -> None:
    """Write `BUILD.md`: how the weights were made and what was printed meanwhile."""
    sizes = {path: path.stat().st_size for path in sorted(folder.glob("*/*"))}
    total = sum(sizes.values())
    table = "\n".join(f"| {path.relative_to(folder)} | {size:,} |" for path, size in sizes.items())
    machine = f"{torch.get_num_threads()} thread(s) on {platform.machine()}, torch {torch.__version__}"
    printed = "\n".join(record.lines)
    text = f"""# How these weights were made

`{_COMMAND}` took {seconds / 60:.1f} minutes ({machine}).

The teacher saw drawn pictures and English captions only. The text model saw captions in five languages, each
text in one language, and was trained by masked-language modelling alone. Neither saw a held-out combination.

Weights are stored in half precision. The scores below are those of the stored files on 1,000 held-out scenes.
The other languages' lines are the floor: their captions, given to the teacher's English tower as they are.

| file | bytes |
|---|---|
{table}
| together | {total:,} |

```text
{printed}
```
"""
    (folder / "BUILD.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Build both models into the package, or into another folder."""
    parser = argparse.ArgumentParser(description="Train the embedded world's tiny models.")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where to write (default: the package)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record, began = Record(), time.perf_counter()
    record.say(f"plan: {TeacherPlan()}")
    record.say(f"plan: {TextPlan()}")
    _fresh(arguments.folder / "text_model")
    save_text_model(*train_text_model(TextPlan(), say=record.say), arguments.folder / "text_model")
    _fresh(arguments.folder / "teacher")
    save_teacher(*train_teacher(TeacherPlan(), say=record.say), arguments.folder / "teacher")
    score_teacher(arguments.folder / "teacher", record=record)
    write_record(arguments.folder, record=record, seconds=time.perf_counter() - began)


def _fresh(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    main()
