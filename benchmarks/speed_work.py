"""One side of `speed.py` in a process of its own: prints its seconds, rates and peak memory as one JSON line.

    python benchmarks/speed_work.py models /tmp/speed minilm      # writes random models of real size
    python benchmarks/speed_work.py langadapt /tmp/speed minilm --pairs 2048
    python benchmarks/speed_work.py recipe /tmp/speed minilm --pairs 1024

Sides: `langadapt` is the command `langadapt distill` from its own recipe; `recipe` is sentence-transformers'
multilingual distillation (precomputed teacher embeddings, MSELoss, all weights trained); `recipe-best` the
same with its batches sorted by length, its teacher at batch 128, and bfloat16 where the device has it;
`recipe-frozen` trains the projection alone.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from langadapt.models.load import uses_bf16

# Width, feed-forward, layers, heads, pieces of the real vocabulary (in the recipe its table trains).
STUDENTS = {"minilm": (384, 1536, 12, 12, 250037), "xlm-roberta-base": (768, 3072, 12, 12, 250002)}
LARGE = ((768, 3072, 12, 12, 49408), (1024, 4096, 24, 16, 250002))
"""CLIP ViT-L/14's text tower, and XLM-R large."""
TEACHER = (512, 2048, 12, 8, 49408)
WORDS = 16000
# Tokens of captions, special ones included, as measured on Multi30k: mean about 16.6, 99 % below 35.
MEDIAN_TOKENS, SPREAD = 15.5, 0.36


def sentences(count: int, *, seed: int) -> list[str]:
    """Texts of random words; their numbers of tokens are distributed as those of real captions."""
    draws = np.random.default_rng(seed)
    tokens = np.clip(np.round(draws.lognormal(np.log(MEDIAN_TOKENS), SPREAD, count)), 5, 60).astype(int)
    return [" ".join(f"w{i}" for i in draws.integers(0, WORDS, n - 2)) for n in tokens]


def flops(size: tuple[int, ...], texts: list[str]) -> float:
    """Of one forward pass without padding, in GFLOP per text; embeddings cost none."""
    width, feedforward, layers, _, _ = size
    lengths = np.array([len(text.split()) + 2 for text in texts], np.float64)
    per_token = 8 * width**2 + 4 * width * feedforward
    return float(layers * (per_token * lengths.mean() + 4 * width * (lengths**2).mean()) / 1e9)


def write_models(work: Path, student: str) -> None:
    """A CLIP whose text tower has the size of ViT-B/32's, and a student of real size; random weights."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
    vocabulary |= {f"w{i}": i + 4 for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=77, **names)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    torch.manual_seed(0)
    if not (work / "teacher").is_dir():
        text = {**dict(zip(keys, TEACHER, strict=True)), **ids, "max_position_embeddings": 77}
        vision = {
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        vision |= {"image_size": 32, "patch_size": 16}
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).save_pretrained(
            work / "teacher"
        )
        square = {"height": 32, "width": 32}
        CLIPImageProcessorPil(size=square, crop_size=square).save_pretrained(work / "teacher")
        fast.save_pretrained(work / "teacher")
    if not (work / student).is_dir():
        shape = dict(zip(keys, STUDENTS[student], strict=True))
        # The multilingual MiniLM is a BERT with XLM-R's vocabulary.
        config, model = (
            (BertConfig, BertModel) if student == "minilm" else (XLMRobertaConfig, XLMRobertaModel)
        )
        made = model(config(**shape, pad_token_id=1, max_position_embeddings=514), add_pooling_layer=False)
        made.save_pretrained(work / student)
        fast.save_pretrained(work / student)


class Clock:
    """Seconds since the start, on the wall and of this process's processors."""

    def __init__(self) -> None:
        self.start = self._now()
        self.marks: dict[str, tuple[float, float]] = {}

    def mark(self, name: str) -> None:
        """Remembers now."""
        wall, busy = self._now()
        self.marks[name] = (wall - self.start[0], busy - self.start[1])

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def recipe_of(place: Path, work: Path, student: str, pairs: int, **settings: int) -> Any:
    """A recipe in the folder `place` for that many pairs of random sentences and the models in `work`."""
    from langadapt.recipes import find_language

    english, target = sentences(pairs + 40, seed=1), sentences(pairs + 40, seed=2)
    rows = "".join(f"{a}\t{b}\n" for a, b in zip(english, target, strict=True))
    (place / "pairs.tsv").write_text("english\ttarget\n" + rows, encoding="utf-8")
    (place / "pairs.yaml").write_text(
        "name: pairs\ntitle: Random words\nlicence: CC0-1.0\nlanguage: xx\n"
        "source: {kind: files, paths: [pairs.tsv]}\n",
        encoding="utf-8",
    )
    stage = {"epochs": 2, "min_steps": 1, "held_out_sentences": 40, **settings}
    (place / "xx.yaml").write_text(
        "code: xx\nname: None\nnative_name: none\niso639_3: xxx\nscripts: [Latn]\n"
        f"teacher: {{repo: {work / 'teacher'}}}\ntext_model: {{repo: {work / student}}}\n"
        f"distill: {json.dumps({'data': ['./pairs.yaml'], **stage})}\nexamples: [w1 w2]\n",
        encoding="utf-8",
    )
    return find_language(str(place / "xx.yaml"))


class Marks:
    """A report that marks the clock where `distill` is."""

    def __init__(self, epochs: int) -> None:
        self.clock, self._epochs = Clock(), epochs

    def __call__(self, progress: Any) -> None:
        if progress.stage.startswith("adapter:"):  # both models are loaded
            self.clock.__init__()  # type: ignore[misc]
        elif progress.stage.startswith("frozen states: texts"):
            self.clock.mark("teacher")
        elif progress.stage == "distil":
            epoch, steps = divmod(progress.done, progress.total // self._epochs)
            if progress.done == 1:
                self.clock.mark("step 1")
            if steps == 0:
                self.clock.mark(f"epoch {epoch}")


def run_langadapt(work: Path, student: str, pairs: int, batch: int) -> Clock:
    """`langadapt distill`, two epochs."""
    from langadapt.training import RunOptions, distill

    place = Path(tempfile.mkdtemp(dir=work))
    os.environ["LANGADAPT_CACHE"] = str(place / "cache")
    recipe, marks = recipe_of(place, work, student, pairs, batch_size=batch), Marks(2)
    options = RunOptions(device=torch.device("cpu"), state_cache_bytes=10**12)
    distill(recipe, place / "run", report=marks, options=options)
    return marks.clock


def run_recipe(
    work: Path, student: str, pairs: int, batch: int, side: str, *, device: str = "cpu", best: bool = False
) -> Clock:
    """Teacher embeddings and two epochs of sentence-transformers' trainer; `best` as in `recipe-best`."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.losses import MSELoss
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import TrainerCallback

    english, target = sentences(pairs, seed=1), sentences(pairs, seed=2)
    teacher = SentenceTransformer(str(work / "teacher"), device=device)
    body = Transformer(str(work / student), max_seq_length=77)
    width = STUDENTS[student][0]
    modules = [body, Pooling(width, pooling_mode="mean"), Dense(width, 512, activation_function=None)]
    model = SentenceTransformer(modules=modules, device=device)
    if side == "recipe-frozen":
        body.requires_grad_(False)
    best = best or side == "recipe-best"
    half = best and uses_bf16(torch.device(device))
    clock = Clock()
    with torch.autocast(device, torch.bfloat16, enabled=half):
        labels = teacher.encode(english, batch_size=128 if best else 32)
    clock.mark("teacher")
    order = np.argsort([len(text.split()) for text in target], kind="stable") if best else np.arange(pairs)
    data = Dataset.from_dict({"sentence": [target[i] for i in order], "label": labels[order].tolist()})

    class Marks(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.mark(f"epoch {round(state.epoch)}")

    arguments = SentenceTransformerTrainingArguments(
        output_dir=tempfile.mkdtemp(dir=work),
        num_train_epochs=2,
        per_device_train_batch_size=batch,
        use_cpu=device == "cpu",
        bf16=half,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **({"batch_sampler": _one_after_another} if best else {}),
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=MSELoss(model), callbacks=[Marks()]
    )
    trainer.train()
    return clock


def _one_after_another(dataset: Any, **options: Any) -> Any:
    """Batches of rows that are sorted by length already."""
    from sentence_transformers.base.sampler import DefaultBatchSampler

    return DefaultBatchSampler(torch.utils.data.SequentialSampler(dataset), **options)


def main() -> None:
    """Runs a side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side", choices=["models", "langadapt", "recipe", "recipe-best", "recipe-frozen"])
    parser.add_argument("work", type=Path)
    parser.add_argument("student", choices=sorted(STUDENTS))
    parser.add_argument("--pairs", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.side == "models":
        write_models(given.work, given.student)
        return
    if given.side == "langadapt":
        clock = run_langadapt(given.work, given.student, given.pairs, given.batch)
    else:
        clock = run_recipe(given.work, given.student, given.pairs, given.batch, given.side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = {"side": given.side, "pairs": given.pairs, "batch": given.batch, "peak_gb": round(peak, 2)}
    sys.stdout.write(json.dumps({**line, "marks": clock.marks}) + "\n")


if __name__ == "__main__":
    main()
