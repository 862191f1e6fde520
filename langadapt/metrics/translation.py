"""How near translations are to human ones: BLEU and chrF++ by sacrebleu, each with its signature."""

from collections.abc import Sequence
from dataclasses import dataclass

from langadapt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TranslationScores:
    """Corpus scores from 0 to 100, and under which settings they were taken."""

    bleu: float
    bleu_signature: str
    chrf: float
    """chrF++: letters and, at weight, words and pairs of words."""
    chrf_signature: str
    rows: int

    def to_dict(self) -> dict[str, float | int | str]:
        """Plain values under stable keys."""
        return {
            "bleu": self.bleu,
            "bleu_signature": self.bleu_signature,
            "chrf": self.chrf,
            "chrf_signature": self.chrf_signature,
            "rows": self.rows,
        }


def translation_scores(
    translations: Sequence[str], references: Sequence[str], *, tokenize: str = "13a"
) -> TranslationScores:
    """Scores translations against one human translation each.

    Args:
        translations: N texts.
        references: N texts, row by row.
        tokenize: sacrebleu's tokenizer for BLEU: `13a`, `zh`, `char` (scripts without spaces), ...

    Raises:
        DataError: other numbers of texts, none at all, or sacrebleu is not installed.

    Source:
        Post (2018), A Call for Clarity in Reporting BLEU Scores; Popović (2017), chrF++.
    """
    if len(translations) != len(references) or not references:
        raise DataError(
            f"{len(translations)} translations beside {len(references)} references; each row needs both"
        )
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise DataError(
            "translations are measured by sacrebleu: pip install 'langadapt[translate]'"
        ) from error
    bleu, chrf = BLEU(tokenize=tokenize), CHRF(word_order=2)
    right = [list(references)]
    scores = bleu.corpus_score(list(translations), right), chrf.corpus_score(list(translations), right)
    return TranslationScores(
        bleu=float(scores[0].score),
        bleu_signature=str(bleu.get_signature()),
        chrf=float(scores[1].score),
        chrf_signature=str(chrf.get_signature()),
        rows=len(references),
    )
