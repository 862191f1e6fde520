"""What other recipes make of the same pairs: retention on real photos, beside SCALING.md's rows.

Teacher, text model, pairs, English captions and test photos are those of `scaling.py` with the same seed.

- `recipe`: sentence-transformers' own, `SentenceTransformerTrainer` with MSELoss on the teacher's embeddings,
  mean pooling and a Dense layer, everything trained, on translations and their English sides.
- `frozen`: the same Dense layer on a frozen text model, on translations, their English sides and the
  English captions.
- `english`: two linear layers on the frozen text model's pooled states, learned on English text alone, as
  METAL does (arXiv 2601.10096). It is the side of 0 pairs, the others are those of more.

Each side takes, of --rates, the one whose rows of held-out translations (a tenth, at most 500; of `english`
100 captions) come nearest to the teacher's; retention on the test photos is printed for that one. The frozen
sides pool each text once and train on that, which only makes them faster.

    LANGADAPT_LAB=... python benchmarks/peers.py zh --text-model E5 --prefix "query: " --pairs 0 1000 10000
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lab import PARALLEL, unpack
from scaling import english_alone, pairs_of, scored_on
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.retrieval import load_retrieval
from langadapt.metrics.retrieval import retrieval_scores
from langadapt.models import load_teacher, resolve_model
from langadapt.models.caches import stored_images
from langadapt.models.load import uses_bf16
from langadapt.recipes import ModelRef, RetrievalRecipe, data_recipe

_CPU = torch.device("cpu")
RATES = {"recipe": [5e-5, 2e-4, 5e-4], "frozen": [1e-3, 3e-3, 1e-2], "english": [3e-4, 1e-3, 3e-3]}


def student(text_model: str, dim: int | None = None) -> Any:
    """The text model with mean pooling and, for `dim`, a Dense layer: as the recipe's documentation says."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    body = Transformer(text_model, max_seq_length=77)
    width = body.get_embedding_dimension()
    parts = [body, Pooling(width, pooling_mode="mean")]
    if dim is not None:
        parts.append(Dense(width, dim, activation_function=None))
    return SentenceTransformer(modules=parts, device="cpu").float()  # weights of 16 bits load as such


def recipe(model: Any, texts: list[str], targets: Tensor, rate: float, given: argparse.Namespace) -> None:
    """Train everything."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MSELoss

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=64,
            learning_rate=rate,
            warmup_steps=0.1,
            bf16=uses_bf16(_CPU),
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        rows = Dataset.from_dict({"sentence": texts, "label": targets.tolist()})
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=MSELoss(model)
        ).train()
    model.eval()


def linear(side: str, pooled: Tensor, targets: Tensor, rate: float, steps: int) -> nn.Module:
    """Train one linear layer (`frozen`) or two (`english`) with the recipe's loss, the mean squared error."""
    width, dim = pooled.shape[1], targets.shape[1]
    torch.manual_seed(0)
    head: nn.Module = nn.Linear(width, dim)
    if side == "english":
        head = nn.Sequential(nn.Linear(width, 1024), nn.Linear(1024, dim))
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows = torch.randint(len(pooled), (256,))
        optimizer.zero_grad()
        F.mse_loss(head(pooled[rows]), targets[rows]).backward()
        optimizer.step()
        plan.step()
    return head.eval()


def main() -> None:
    """Run the sides, one after the other, and append a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lang", choices=[*PARALLEL])
    parser.add_argument("--text-model", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--pairs", type=int, nargs="+", default=[0, 1000, 10_000])
    parser.add_argument("--sides", nargs="+", choices=RATES, default=[*RATES])
    parser.add_argument("--rates", type=float, nargs="+", help="of each side; three of its own unless said")
    parser.add_argument("--epochs", type=int, default=5, help="of `recipe`")
    parser.add_argument("--steps", type=int, default=10_000, help="of 256 rows, of the frozen sides")
    parser.add_argument("--work", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--results", type=Path, default=Path("runs/scaling/peers.jsonl"))
    given = parser.parse_args()
    lab = Path(os.environ["LANGADAPT_LAB"]).resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    unpack(lab, given.work.resolve())
    teacher = load_teacher(resolve_model(ModelRef(repo=str(lab / "models" / "clip-en"))), device=_CPU)
    test = load_retrieval(data_recipe(RetrievalRecipe, str(scored_on(given.work.resolve(), lab, given.lang))))
    assert test.images is not None
    assert test.ceiling_texts is not None
    gallery = stored_images(teacher, test.images)

    def mr6(rows: Tensor, owners: Any) -> float:
        return retrieval_scores(rows, gallery, torch.tensor(owners), signature="peers").mr6

    ceiling = mr6(teacher.text.embed(test.ceiling_texts), test.ceiling_image_of_text)
    plain, known = student(given.text_model), dict[str, Tensor]()

    def pooled(texts: list[str]) -> Tensor:
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            rows = plain.encode(missing, batch_size=64, convert_to_tensor=True)
            known.update(zip(missing, rows, strict=True))
        return torch.stack([known[text] for text in texts]).clone()

    for pairs in given.pairs:
        held = min(500, pairs // 10) if pairs else 100
        rows = pairs_of(lab, given.lang, 0)[:pairs]
        translations = [given.prefix + r["target"] for r in rows]
        sides = [r["english"] for r in rows]
        alone = english_alone(lab)
        for side in (side for side in given.sides if (side == "english") == (pairs == 0)):
            if side == "english":
                texts, meant = [given.prefix + text for text in alone], alone
            elif side == "frozen":
                texts = [*translations, *(given.prefix + text for text in sides + alone)]
                meant = [*sides, *sides, *alone]
            else:
                texts, meant = [*translations, *(given.prefix + text for text in sides)], sides + sides
            targets = teacher.text.embed(meant).clone()
            started, found = time.process_time(), []
            for rate in given.rates or RATES[side]:
                if side == "recipe":
                    model = student(given.text_model, teacher.dim)
                    recipe(model, texts[held:], targets[held:], rate, given)
                    embed = partial(model.encode, batch_size=64, convert_to_tensor=True)
                else:
                    head = linear(side, pooled(texts[held:]), targets[held:], rate, given.steps)
                    embed = partial(_headed, head, pooled)
                near = F.cosine_similarity(embed(texts[:held]), targets[:held]).mean().item()
                score = mr6(embed([given.prefix + text for text in test.texts]), test.image_of_text)
                found.append({"rate": rate, "held_out_cosine": near, "retention": score / ceiling})
            best = max(found, key=lambda item: item["held_out_cosine"])
            seconds = round((time.process_time() - started) / len(found))
            line = {"lang": given.lang, "pairs": pairs, "side": side, "cpu_seconds": seconds, **best}
            line |= {"epochs": given.epochs} if side == "recipe" else {"steps": given.steps}
            sys.stdout.write(f"{json.dumps(line)}\n")
            sys.stdout.flush()
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "rates": found}) + "\n")


@torch.inference_mode()
def _headed(head: nn.Module, pooled: Callable[[list[str]], Tensor], texts: list[str]) -> Tensor:
    rows: Tensor = head(pooled(texts))
    return rows


if __name__ == "__main__":
    main()
