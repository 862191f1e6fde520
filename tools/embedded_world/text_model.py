"""A tiny multilingual encoder trained by masked-language modelling on captions, one language at a time.

No example holds two languages, no loss compares two texts: nothing tells the model that sentences in
different languages mean the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForMaskedLM

from tools.embedded_world.authors import Author
from tools.embedded_world.captions import CAPTIONS
from tools.embedded_world.optimizers import Descent
from tools.embedded_world.plans import sample_plan
from tools.embedded_world.sampling import training_scenes
from tools.embedded_world.storing import save_half

MAX_TOKENS = 128
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BOS, PAD, EOS, UNK, MASK = range(5)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TextPlan:
    """How the text model is trained.

    Args:
        texts: Monolingual texts per language; each language describes its own scenes.
        steps: Optimizer steps.
        batch: Texts per step.
        learning_rate: Peak learning rate.
        masked_fraction: Share of tokens to predict.
        vocabulary: Upper bound on the pieces of the tokenizer.
        seed: Seeds texts, initial weights, order and masks.
    """

    texts: int = 16_000
    steps: int = 1_500
    batch: int = 48
    learning_rate: float = 2e-3
    masked_fraction: float = 0.25
    vocabulary: int = 3_000
    seed: int = 2


def monolingual_texts(language: str, count: int, rng: Author) -> list[str]:
    """Captions in one language; half of the texts describe their scene twice, in other words.

    Args:
        language: A key of `CAPTIONS`.
        count: Number of texts.
        rng: Chooses scenes and words.

    Returns:
        `count` texts of one or two captions.
    """
    caption = CAPTIONS[language]
    texts = []
    for scene in islice(training_scenes(rng), count):
        times = rng.choice((1, 2))
        texts.append(" ".join(caption(sample_plan(scene, rng), rng) for _ in range(times)))
    return texts


def train_tokenizer(texts: list[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn one byte-pair vocabulary for all languages; Chinese characters stand alone."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def new_model(*, vocabulary: int) -> XLMRobertaForMaskedLM:
    """An XLM-RoBERTa of about one and a half million parameters with fresh weights."""
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=MAX_TOKENS + PAD + 1,
        type_vocab_size=1,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return XLMRobertaForMaskedLM(config)


def train_text_model(plan: TextPlan, *, say: Say) -> tuple[XLMRobertaForMaskedLM, PreTrainedTokenizerFast]:
    """Write monolingual texts and train the encoder to fill in masked tokens.

    Args:
        plan: Sizes and schedule.
        say: Receives a line of progress now and then.

    Returns:
        The trained model in evaluation mode and its tokenizer.
    """
    rng = Author(plan.seed)
    texts = [text for language in CAPTIONS for text in monolingual_texts(language, plan.texts, rng)]
    tokenizer = train_tokenizer(texts, vocabulary=plan.vocabulary)
    rows = sorted(tokenizer(texts, truncation=True)["input_ids"], key=len)
    mean_tokens = sum(map(len, rows)) / len(rows)
    say(f"text model: {len(texts)} texts of {mean_tokens:.1f} tokens on average, {len(tokenizer)} pieces")

    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    model = new_model(vocabulary=len(tokenizer))
    say(f"text model: {sum(p.numel() for p in model.parameters()):,} parameters with the head")
    model.train()
    descent = Descent(model, name="text model", steps=plan.steps, learning_rate=plan.learning_rate, say=say)
    for ids in islice(_batches(rows, plan.batch, generator), plan.steps):
        descent.step(masked_loss(model, ids, fraction=plan.masked_fraction, generator=generator))
    return model.eval(), tokenizer


def masked_loss(
    model: XLMRobertaForMaskedLM, ids: Tensor, *, fraction: float, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of hidden tokens; every hidden token becomes `<mask>`.

    Args:
        model: The encoder with its head.
        ids: Token ids [B, T], padded with `PAD`.
        fraction: Share of ordinary tokens to hide.
        generator: Chooses which.

    Returns:
        A scalar, in nats per hidden token.
    """
    ordinary = (ids != PAD) & (ids != BOS) & (ids != EOS)
    hidden = ordinary & (torch.rand(ids.shape, generator=generator) < fraction)
    hidden[0, 1] = True
    states = model.roberta(
        input_ids=ids.masked_fill(hidden, MASK), attention_mask=(ids != PAD).long()
    ).last_hidden_state
    return functional.cross_entropy(model.lm_head(states[hidden]), ids[hidden])


def _batches(rows: list[list[int]], size: int, generator: torch.Generator) -> Iterator[Tensor]:
    starts = torch.arange(0, len(rows) - size + 1, size)
    while True:
        for start in starts[torch.randperm(len(starts), generator=generator)].tolist():
            part = rows[start : start + size]
            width = len(part[-1])
            yield torch.tensor([row + [PAD] * (width - len(row)) for row in part])


def save_text_model(model: XLMRobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the encoder alone, without head and pooler, weights stored in half precision."""
    save_half(model.roberta, folder)
    tokenizer.save_pretrained(folder)
