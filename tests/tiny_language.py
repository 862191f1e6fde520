"""A language of 144 sentences and tokenizers that know it, for the tiny models."""

import itertools
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

COLOURS = {"red": "rojo", "blue": "azul", "green": "verde", "grey": "gris", "pink": "rosa", "brown": "pardo"}
THINGS = {"cat": "gato", "dog": "perro", "boat": "barco", "house": "casa", "tree": "arbol", "car": "coche"}
PLACES = {"home": "hogar", "sea": "mar", "park": "parque", "road": "camino"}


def sentences() -> list[tuple[str, str]]:
    """144 English sentences and their translations."""
    rows = itertools.product(COLOURS.items(), THINGS.items(), PLACES.items())
    return [(f"a {c} {t} at {p}", f"{t2} {c2} en {p2}") for (c, c2), (t, t2), (p, p2) in rows]


def save_tokenizer(folder: Path, words: list[str], *, max_tokens: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with XLM-R's special ids: <s> 0, <pad> 1, </s> 2, <unk> 3."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_tokens,
    )
    fast.save_pretrained(folder)
    return fast
