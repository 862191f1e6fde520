"""A tiny CLIP model trained on drawn scenes and their English captions, and on nothing else."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from langadapt.quickstart.drawing import draw
from langadapt.quickstart.shapes import Scene
from tools.embedded_world.captions import english
from tools.embedded_world.optimizers import Descent
from tools.embedded_world.plans import sample_plan
from tools.embedded_world.sampling import BACKGROUNDS, training_scenes
from tools.embedded_world.storing import save_half

IMAGE_PIXELS = 64
CONTEXT_TOKENS = 48
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """How the teacher is trained.

    Args:
        scenes: Number of pictures drawn.
        captions: English captions per picture; each epoch uses another one.
        steps: Optimizer steps.
        single_steps: How many of them, at the start, see scenes with one thing only.
        batch: Pictures per step.
        learning_rate: Peak learning rate.
        seed: Seeds scenes, captions, initial weights and order.
    """

    scenes: int = 24_000
    captions: int = 6
    steps: int = 1_500
    single_steps: int = 200
    batch: int = 128
    learning_rate: float = 2.5e-3
    seed: int = 1


def image_processor() -> CLIPImageProcessorPil:
    """The preprocessing that belongs to the teacher: RGB, bicubic to 64 pixels, centred at zero."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_PIXELS},
        crop_size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS},
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def train_tokenizer(captions: list[str]) -> PreTrainedTokenizerFast:
    """Learn an English word list; every other word becomes the unknown token."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = ["<pad>", "<start>", "<end>", "<unk>"]
    tokenizer.train_from_iterator(captions, trainers.WordLevelTrainer(special_tokens=specials))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=CONTEXT_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def new_model(*, vocabulary: int) -> CLIPModel:
    """A CLIP model of just under two million parameters with fresh weights."""
    config = CLIPConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT_TOKENS,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "image_size": IMAGE_PIXELS,
            "patch_size": 16,
        },
        projection_dim=128,
    )
    return CLIPModel(config)


def pictures(scenes: list[Scene]) -> Tensor:
    """Draw scenes at the model's size.

    Args:
        scenes: N scenes.

    Returns:
        Pixels [N, 3, 64, 64], uint8.
    """
    size = (IMAGE_PIXELS, IMAGE_PIXELS)
    pixels = np.empty((len(scenes), IMAGE_PIXELS, IMAGE_PIXELS, 3), dtype=np.uint8)
    for row, scene in enumerate(scenes):
        pixels[row] = np.asarray(draw(scene).resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def train_teacher(plan: TeacherPlan, *, say: Say) -> tuple[CLIPModel, PreTrainedTokenizerFast]:
    """Draw scenes, caption them in English and train CLIP on the pairs.

    Args:
        plan: Sizes and schedule.
        say: Receives a line of progress now and then.

    Returns:
        The trained model in evaluation mode and its tokenizer.
    """
    rng = random.Random(plan.seed)
    began = time.perf_counter()
    scenes = list(islice(training_scenes(rng), plan.scenes))
    texts = [english.caption(sample_plan(scene, rng), rng) for _ in range(plan.captions) for scene in scenes]
    pixels = pictures(scenes)
    tokenizer = train_tokenizer(texts[: plan.scenes])
    encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    ids = encoded["input_ids"].view(plan.captions, plan.scenes, -1)
    say(f"teacher: drew {plan.scenes} scenes in {time.perf_counter() - began:.0f} s, {len(tokenizer)} words")

    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    model = new_model(vocabulary=len(tokenizer))
    say(f"teacher: {sum(p.numel() for p in model.parameters()):,} parameters")
    model.train()
    descent = Descent(model, name="teacher", steps=plan.steps, learning_rate=plan.learning_rate, say=say)
    for epoch, rows in islice(_batches(plan, scenes, generator), plan.steps):
        descent.step(_contrast(model, pixels[rows], ids[epoch % plan.captions, rows]))
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
    return model.eval(), tokenizer


def _batches(
    plan: TeacherPlan, scenes: list[Scene], generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    """Row numbers of each batch, with the epoch that chooses the caption.

    The first steps see single things only. Later every second epoch puts scenes with the same background
    together, so that the objects have to tell them apart.
    """
    single = torch.tensor([len(scene.things) == 1 for scene in scenes]).nonzero().flatten()
    background = torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes])
    steps = 0
    for epoch in range(plan.steps):
        rows = single if steps < plan.single_steps else torch.arange(len(scenes))
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if epoch % 2 and steps >= plan.single_steps:
            rows = rows[background[rows].argsort(stable=True)]
        starts = torch.arange(0, len(rows) - plan.batch + 1, plan.batch)
        for start in starts[torch.randperm(len(starts), generator=generator)].tolist():
            steps += 1
            yield epoch, rows[start : start + plan.batch]


def _contrast(model: CLIPModel, pixels: Tensor, ids: Tensor) -> Tensor:
    length = int((ids != 0).sum(1).max())
    ids = ids[:, :length]
    images = pixels.float().div_(127.5).sub_(1)
    output = model(input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=images)
    logits = model.logit_scale.exp() * output.text_embeds @ output.image_embeds.T
    labels = torch.arange(len(ids))
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2


def save_teacher(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the teacher as an ordinary model folder, weights stored in half precision."""
    save_half(model, folder)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)
