"""The resumable stages on tiny models: what each runs, and which of its files must always be the same."""

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from small_world import small_teacher, small_text_model, small_vision
from tiny_language import sentences
from tiny_marian import make_marian

from langadapt.cleaning import build  # noqa: F401
from langadapt.cleaning import chunks as sources
from langadapt.cli import main as command_line
from langadapt.data import parallel
from langadapt.errors import LangadaptError
from langadapt.files import store
from langadapt.models import caches as image_store
from langadapt.models import load_teacher
from langadapt.models.load import resolve_model
from langadapt.recipes import ModelRef
from langadapt.search import update as search_update
from langadapt.training import RunOptions, distill_data

torch.set_num_threads(1)  # also: a fork copies no other thread
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage; `{world}` and `{place}` in its command are the folders of the models and of the run."""

    name: str
    makes: tuple[str, ...]
    """Patterns of files below the place."""
    command: tuple[str, ...] = ()
    function: Callable[[Path, Path], None] | None = None
    finished: str | None = None
    """A file with which the stage refuses to start again."""

    def work(self, world: Path, place: Path) -> None:
        """Runs it in this process, in small chunks: many moments at which something is on disk."""
        _small_chunks()
        if self.function is not None:
            try:
                self.function(world, place)
            except LangadaptError as error:  # as the command line says it
                sys.exit(_refusal(error))
            return
        sys.argv = ["langadapt", *(word.format(world=world, place=place) for word in self.command)]
        command_line()


def _refusal(error: LangadaptError) -> int:
    sys.stderr.write(f"langadapt: {error}\n")
    return 2


def _small_chunks() -> None:
    store._TEXTS_PER_PART = 50
    image_store.image_embeddings.__kwdefaults__["batch_size"] = 4
    parallel._CHUNK_ROWS = 6
    search_update._BATCH = 3
    sources._ROWS_PER_CHUNK = 12
    RunOptions.__init__.__kwdefaults__["checkpoint_seconds"] = 0.0


def _stores(world: Path, place: Path) -> None:
    teacher = load_teacher(resolve_model(ModelRef(repo=str(world / "teacher"))))
    english = list(dict.fromkeys(text for text, _ in sentences()))
    distill_data.teacher_targets(english, teacher, place / "cache", lambda progress: None)
    image_store.stored_images(teacher, sorted((world / "pictures").iterdir()))


_RUN = ("run/*.safetensors", "run/recipe.yaml", "cache/**/rows.bin", "cache/**/rows.crc")
STAGES = (
    Stage(name="stores", function=_stores, makes=("cache/**/rows.bin", "cache/**/rows.crc")),
    Stage(
        name="distill",
        command=("distill", "--recipe", "{world}/es.yaml", "--out", "{place}/run", "--device", "cpu"),
        makes=_RUN,
        finished="run/artifact.json",
    ),
    Stage(
        name="tune",
        command=(
            "tune", "--from", "{world}/run", "--pairs", "{world}/pairs.tsv", "--images", "{world}/pictures",
            "--set", "tune.epochs=5", "--set", "tune.batch_size=8", "--set", "tune.text=[projection, bitfit]",
            "--set", "tune.patience_epochs=5", "--out", "{place}/run", "--device", "cpu",
        ),
        makes=_RUN,
        finished="run/artifact.json",
    ),
    Stage(
        name="tune both towers",
        command=(
            "tune", "--from", "{world}/run", "--pairs", "{world}/pairs.tsv", "--images", "{world}/pictures",
            "--set", "tune.epochs=3", "--set", "tune.batch_size=8", "--set", "tune.text=full",
            "--set", "tune.image=[layer_norm, projection]",
            "--set", "tune.patience_epochs=3", "--out", "{place}/run", "--device", "cpu",
        ),
        makes=_RUN,
        finished="run/artifact.json",
    ),
    Stage(
        name="align",
        command=(
            "align", "--image-model", "{world}/vision", "--text-model", "{world}/text",
            "--pairs", "{world}/pairs.tsv", "--images", "{world}/pictures", "--set", "epochs=12",
            "--set", "batch_size=8", "--set", "dim=8", "--set", "held_out_fraction=0.4",
            "--set", "learning_rate=3e-2", "--out", "{place}/run", "--device", "cpu",
        ),
        makes=_RUN,
        finished="run/artifact.json",
    ),
    Stage(
        name="domain",
        command=(
            "domain", "--from", "{world}/run", "--pairs", "{world}/pairs.tsv", "--images", "{world}/pictures",
            "--set", "domain.epochs=4", "--set", "domain.batch_size=6", "--out", "{place}/run",
            "--device", "cpu",
        ),
        makes=(*_RUN, "run/domain.json", "run/hard-pairs.jsonl"),
        finished="run/report.html",
    ),
    Stage(
        name="prompts",
        command=(
            "prompts", "--shots", "2", "--images", "{world}/classes", "--model", "{world}/run",
            "--out", "{place}/learned", "--no-baselines", "--set", "few_shot.steps=12", "--device", "cpu",
        ),
        makes=("learned/prompts.safetensors",),
        finished="learned/scores.json",
    ),
    Stage(
        name="translate",
        command=(
            "data", "translate", "{world}/parallel.tsv", "--lang", "es", "--model", "{world}/marian",
            "--out", "{place}/made.tsv", "--device", "cpu",
        ),
        makes=("made.*",),
        finished="made.yaml",
    ),
    Stage(
        name="index",
        command=(
            "index", "{world}/pictures", "--model", "{world}/run", "--index", "{place}/index",
            "--export", "{place}/rows.npy", "--device", "cpu",
        ),
        makes=("rows.npy",),
    ),
    Stage(
        name="data build",
        command=("data", "build", "--lang", "{world}/es.yaml", "--out", "{place}/clean", "--workers", "1"),
        makes=("clean/*",),
    ),
)  # fmt: skip


def prepare(world: Path, names: Collection[str] = ()) -> None:
    """What some stages start from, or all of them: models, data, a distilled student."""
    small_teacher(world / "teacher")
    rows = sentences()
    _pictures(world, rows)
    if set(names) == {"stores"}:
        return
    small_text_model(world / "text")
    small_vision(world / "vision")
    (world / "marian").mkdir()
    make_marian(world / "marian", languages=())
    table = "english\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows)
    (world / "parallel.tsv").write_text(table, encoding="utf-8")
    (world / "p.yaml").write_text(
        "name: p\ntitle: T\nlicence: CC0-1.0\nlanguage: es\nsource: {kind: files, paths: [parallel.tsv]}\n",
        encoding="utf-8",
    )
    (world / "es.yaml").write_text(
        f"""code: es
name: Spanish
native_name: español
iso639_3: spa
scripts: [Latn]
teacher: {{repo: {world / "teacher"}}}
text_model: {{repo: {world / "text"}}}
adapter: {{bottleneck_dim: 16, layers: 1, heads: 2, feedforward_dim: 32, dropout: 0.1}}
distill: {{data: [./p.yaml], epochs: 4, min_steps: 1, batch_size: 16, learning_rate: 3e-3,
  held_out_sentences: 14}}
prompts: ["un {{label}} rojo en mar"]
""",
        encoding="utf-8",
    )
    os.environ["LANGADAPT_CACHE"] = str(world / "cache")
    sys.argv = [
        "langadapt",
        "distill",
        "--recipe",
        f"{world}/es.yaml",
        "--out",
        f"{world}/run",
        "--device",
        "cpu",
    ]
    command_line()


def _pictures(world: Path, rows: list[tuple[str, str]]) -> None:
    (world / "pictures").mkdir()
    lines = ["image\tcaption\tenglish\n"]
    for number, (english, target) in enumerate(rows[::6]):
        picture = Image.new("RGB", (20, 16), english.split()[1].replace("grey", "gray"))
        ImageDraw.Draw(picture).rectangle((number % 9, 4, 12, 10), fill=(9 * number, 80, 30))
        picture.save(world / "pictures" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png\t{target}\t{english}\n")
        place = world / "classes" / target.split()[0]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number:02d}.png")
    (world / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
