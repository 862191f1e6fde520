"""Quality of translations: BLEU and chrF++ by sacrebleu, each with its signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from langadapt.errors import DataError

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
