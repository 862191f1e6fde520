"""Translation models (Marian, NLLB and M2M100, MADLAD), and how good translations are.

Whether two texts mean the same, and BLEU and chrF++ by sacrebleu, each with its signature.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM

from langadapt.data.tokens import Tokens, by_length
from langadapt.errors import DataError, ModelError
from langadapt.models.frozen_text import FrozenText
from langadapt.models.load import (
    ResolvedModel,
    load_config,
    load_module,
    load_tokenizer,
    resolve_model,
    tokenize_texts,
)
from langadapt.models.student import load_text_model
from langadapt.recipes import ModelRef, TextModelRef

_LONGEST = 128
"""Tokens of a text and of its translation: captions are far below it."""


@dataclass(frozen=True, kw_only=True)
class Translator:
    """A translation model from one language into another."""

    source: ResolvedModel
    module: Any
    tokenizer: Any
    prefix: str = ""
    """Put before each text to name the target language."""
    first_token: int | None = None
    """Token that each translation starts with."""
    beams: int = 1

    @property
    def label(self) -> str:
        """Name, short revision and search, as they stand in a signature."""
        return f"{self.source.label}+beams{self.beams}"

    @torch.inference_mode()
    def translate(self, texts: Sequence[str], *, batch_tokens: int = 4096) -> list[str]:
        """Translate texts, none empty, in their order, in batches of like length."""
        limit = min(_LONGEST, int(self.tokenizer.model_max_length))
        tokens = tokenize_texts(self.tokenizer, texts, max_tokens=limit, prepare=self.prefix.__add__)
        out = [""] * len(texts)
        search: dict[str, Any] = {"num_beams": self.beams, "do_sample": False, "max_length": None}
        if self.first_token is not None:
            search["forced_bos_token_id"] = self.first_token
        for rows in by_length(tokens.lengths, batch_tokens=batch_tokens):
            batch = tokens.batch(rows).to(self.module.device)
            made = self.module.generate(
                input_ids=batch.input_ids, attention_mask=batch.mask.long(), max_new_tokens=_LONGEST, **search
            )
            said = self.tokenizer.batch_decode(made, skip_special_tokens=True)
            for row, text in zip(rows.tolist(), said, strict=True):
                out[row] = " ".join(text.split())
        return out


def load_translator(
    source: ResolvedModel,
    *,
    source_code: str | None = None,
    target_code: str | None = None,
    beams: int = 1,
    device: torch.device | None = None,
) -> Translator:
    """Load a translation model for one direction.

    `source_code` is the texts' language as the model calls it (NLLB `eng_Latn`, M2M100 `en`), `target_code`
    that of the translations (also MADLAD `sw`, a many-language Marian `swh`); English unless said. `beams`
    hypotheses are kept while searching; 1 is greedy.
    """
    config = load_config(source)
    kind = config.model_type
    if kind not in ("marian", "m2m_100", "t5"):
        known = "Marian, NLLB, M2M100, MADLAD"
        raise ModelError(f"{source.repo} ({kind}) is no translation model that is known here: {known}")
    module = load_module(source, config, auto=AutoModelForSeq2SeqLM).to(device or torch.device("cpu"))
    tokenizer = load_tokenizer(source)
    prefix, first_token = "", None
    if kind == "m2m_100":
        english = "eng_Latn" if "eng_Latn" in tokenizer.get_vocab() else "en"
        tokenizer.src_lang = source_code or english
        _code(tokenizer, tokenizer.src_lang, source, "{}", "__{}__")
        first_token = _code(tokenizer, target_code or english, source, "{}", "__{}__")[1]
    elif kind == "t5":
        prefix = _code(tokenizer, target_code or "en", source, "<2{}>")[0] + " "
    elif getattr(tokenizer, "supported_language_codes", []):
        prefix = _code(tokenizer, target_code or "eng", source, ">>{}<<")[0] + " "
    elif source_code or target_code:
        raise ModelError(f"{source.repo} translates one pair of languages: leave the language codes out")
    return Translator(
        source=source, module=module, tokenizer=tokenizer, prefix=prefix, first_token=first_token, beams=beams
    )


def named_model(text: str) -> ModelRef:
    """`org/name`, `org/name@REVISION` or a folder as a reference."""
    name, at, revision = text.rpartition("@")
    if at and re.fullmatch(r"[0-9a-f]{40}", revision):
        return ModelRef(repo=name, revision=revision)
    if at and not text.startswith((".", "/", "~")):
        raise ModelError(f"{text}: behind @ stands a full commit hash of 40 hex digits, got '{revision}'")
    return ModelRef(repo=text)


def _code(tokenizer: Any, code: str, source: ResolvedModel, *forms: str) -> tuple[str, int]:
    """The token of a language, which has one of some forms, and its id."""
    known = tokenizer.get_vocab()
    for token in (form.format(code) for form in forms):
        if token in known:
            return token, int(known[token])
    pattern = "|".join(re.escape(form).replace(r"\{\}", r"(\w+)") for form in forms)
    said = [next(filter(None, m.groups())) for token in known if (m := re.fullmatch(pattern, token))]
    near = difflib.get_close_matches(code, said, n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise ModelError(f"{source.repo} does not know the language '{code}'{hint}")


Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]
"""Two sides of R pairs of texts to the cosine of each pair, float32 `[R]`."""


def load_agreement(name: str) -> Agreement:
    """Load a multilingual encoder that tells whether two texts mean the same, on the CPU.

    Texts are embedded by the mean of the last layer's states, as is usual for E5 and the MiniLM family.
    `name` is a local folder, or `org/name@revision` on the Hub.
    """
    repo, _, revision = name.partition("@")
    reference = TextModelRef(repo=repo, revision=revision or None, unverified=not revision)
    model = load_text_model(resolve_model(reference), reference, max_tokens=128)

    def means(tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        states = model.packed_states(tokens, rows, "last", exact=exact)[:, 0].float()
        parts = torch.split(states, tokens.lengths_of(rows).tolist())
        return F.normalize(torch.stack([text.mean(dim=0) for text in parts]), dim=1)

    text = FrozenText(
        tokenize=model.tokenize, run=means, path=model.path, dim=model.state_dim, device=model.device
    )

    def agree(english: Sequence[str], target: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray((text.embed(english) * text.embed(target)).sum(dim=1).numpy(), np.float32)

    return agree


_TOKENIZERS = {
    **dict.fromkeys(("zh", "yue", "wuu", "nan", "hak", "lzh"), "zh"),
    **dict.fromkeys(("ja", "ko", "th", "km", "lo", "my", "shn", "bo", "dz", "ii"), "char"),
}
"""sacrebleu's tokenizers where no space divides words (in Korean, a word from its particle)."""


@dataclass(frozen=True, kw_only=True)
class TranslationScores:
    """Corpus scores from 0 to 100, and the settings behind them."""

    bleu: float
    bleu_signature: str
    chrf: float
    """chrF++: F-score over character n-grams, word unigrams and word bigrams."""
    chrf_signature: str
    rows: int

    def __str__(self) -> str:
        """Both scores in words."""
        return f"chrF++ {self.chrf:.1f}, BLEU {self.bleu:.1f} ({self.rows:,} rows)"


def translation_scores(
    translations: Sequence[str], references: Sequence[str], *, language: str
) -> TranslationScores:
    """Score translations against one human translation each, row by row.

    `language`, the code of the texts' language, decides what a word is to BLEU; its signature says so.

    Source: Post (2018), A Call for Clarity in Reporting BLEU Scores; Popović (2017), chrF++.
    """
    if len(translations) != len(references) or not references:
        counts = f"{len(translations)} translations beside {len(references)} references"
        raise DataError(f"{counts}; each row needs both")
    from sacrebleu.metrics import BLEU, CHRF  # here: most evaluations measure no translation

    bleu, chrf = BLEU(tokenize=_tokenizer(language)), CHRF(word_order=2)
    bleu_score = bleu.corpus_score(list(translations), [list(references)])
    chrf_score = chrf.corpus_score(list(translations), [list(references)])
    return TranslationScores(
        bleu=float(bleu_score.score),
        bleu_signature=str(bleu.get_signature()),
        chrf=float(chrf_score.score),
        chrf_signature=str(chrf.get_signature()),
        rows=len(references),
    )


def _tokenizer(language: str) -> str:
    if language == "ja" and find_spec("MeCab") and find_spec("ipadic"):
        return "ja-mecab"
    return _TOKENIZERS.get(language, "13a")
