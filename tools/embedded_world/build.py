"""Build the shipped weights: `python -m tools.embedded_world.build`.

Trains the tiny models from their seeds, scores the teacher on the 1,000 held-out scenes and writes the models
with a record of everything that was printed.
"""

import argparse
import os
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
from langadapt.quickstart.world import WEIGHTS, held_out_rows
from tools.embedded_world.captions import CAPTIONS
from tools.embedded_world.teacher import TeacherPlan, save_teacher, train_teacher
from tools.embedded_world.text_model import TextPlan, save_text_model, train_text_model

PARTS = ("teacher", "text_model")


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
    image_of_text = torch.tensor([number for number, row in enumerate(rows) for _ in row.captions["en"]])
    for language in CAPTIONS:
        captions = [text for row in rows for text in row.captions[language]]
        batch = tokenizer(captions, padding=True, return_tensors="pt")
        output = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        texts = functional.normalize(model.text_projection(output.pooler_output), dim=-1)
        scores = retrieval_scores(texts, images, image_of_text, signature="held-out scenes")
        t2i, i2t = scores.t2i, scores.i2t
        record.say(
            f"scores: {language} t2i R@1 {t2i.r1:.1f} R@5 {t2i.r5:.1f} R@10 {t2i.r10:.1f} | "
            f"i2t R@1 {i2t.r1:.1f} R@5 {i2t.r5:.1f} R@10 {i2t.r10:.1f} | mR6 {scores.mr6:.1f}"
        )


def _images(model: CLIPModel, pixels: Tensor) -> Tensor:
    outputs = [model.vision_model(pixel_values=part).pooler_output for part in torch.split(pixels, 100)]
    return functional.normalize(model.visual_projection(torch.cat(outputs)), dim=-1)


def write_record(folder: Path) -> None:
    """Write `BUILD.md`: what the logs of both parts say, and the sizes of the files."""
    logs = {part: (folder / f"{part}.log") for part in PARTS}
    printed = "\n\n".join(
        f"## {part}\n\n```text\n{log.read_text(encoding='utf-8')}```"
        for part, log in logs.items()
        if log.is_file()
    )
    sizes = {path: path.stat().st_size for path in sorted(folder.glob("*/*"))}
    table = "\n".join(f"| {path.relative_to(folder)} | {size:,} |" for path, size in sizes.items())
    text = f"""# How these weights were made

Each model by its own command, whose output stands below and in the `.log` files.

The teacher saw drawn pictures and English captions only. The text model saw captions in five languages, each
text in one language, and was trained by masked-language modelling alone. Neither saw a held-out combination.

Weights are stored in half precision. The scores below are those of the stored files on 1,000 held-out scenes
with two captions each. The teacher is older than the rare words of the other languages, which it never saw;
its lines of scores are newer than the rest of its log.
The other languages' lines are the floor: their captions, given to the teacher's English tower as they are.

| file | bytes |
|---|---|
{table}
| together | {sum(sizes.values()):,} |

{printed}
"""
    (folder / "BUILD.md").write_text(text, encoding="utf-8")


def build(part: str, folder: Path) -> None:
    """Train one of `PARTS` and write its folder, its log and the record of both."""
    record, began = Record(), time.perf_counter()
    record.say(f"$ python -m tools.embedded_world.build {part}")
    shutil.rmtree(folder / part, ignore_errors=True)
    if part == "teacher":
        record.say(f"{TeacherPlan()}")
        save_teacher(*train_teacher(TeacherPlan(), say=record.say), folder / part)
        score_teacher(folder / part, record=record)
    else:
        record.say(f"{TextPlan()}")
        save_text_model(*train_text_model(TextPlan(), say=record.say), folder / part)
    minutes = (time.perf_counter() - began) / 60
    machine = f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} {platform.machine()} cores, shared"
    record.say(f"{part}: {minutes:.1f} minutes on {machine}; torch {torch.__version__}")
    (folder / f"{part}.log").write_text("\n".join(record.lines) + "\n", encoding="utf-8")
    write_record(folder)


def main() -> None:
    """Build one model or both, into the package unless told otherwise."""
    parser = argparse.ArgumentParser(description="Train the embedded world's tiny models.")
    parser.add_argument("parts", nargs="*", choices=PARTS, default=PARTS, help="which models (default: both)")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where to write (default: the package)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        build(part, arguments.folder)


if __name__ == "__main__":
    main()
