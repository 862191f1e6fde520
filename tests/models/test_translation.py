"""BLEU and chrF++ by hand on sentences that are short enough for it."""

import math

import pytest

from langadapt.errors import DataError
from langadapt.models.translator import translation_scores


def test_bleu_by_hand() -> None:
    """Five words of which four n-grams of each length but the last are right; no brevity penalty."""
    scores = translation_scores(["the cat sat down here"], ["the cat sat down there"], language="en")
    precisions = [4 / 5, 3 / 4, 2 / 3, 1 / 2]
    assert scores.bleu == pytest.approx(100 * math.prod(precisions) ** 0.25, abs=1e-6)
    assert scores.rows == 1


def test_chrf_by_hand() -> None:
    """chrF++ means the F-scores (recall counts double) of 1 to 6 letters and of 1 and 2 words."""
    hypothesis, reference = "ab", "abc"

    def f(right: int, said: int, wanted: int) -> float:
        precision, recall = right / said, right / wanted
        return 5 * precision * recall / (4 * precision + recall) if right else 0.0

    # letters: 1-grams 2 of 2 said and of 3 wanted, 2-grams 1 of 1 and of 2; 3-grams are not in both.
    # words: 0 of 1 and of 1.
    precision = (2 / 2 + 1 / 1 + 0 / 1) / 3
    recall = (2 / 3 + 1 / 2 + 0 / 1) / 3
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert translation_scores([hypothesis], [reference], language="en").chrf == pytest.approx(
        expected, abs=1e-6
    )
    assert f(1, 1, 1) == 1.0


def test_signatures_name_the_settings() -> None:
    scores = translation_scores(["a b c d"], ["a b c d"], language="en")
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert "tok:13a" in scores.bleu_signature
    assert "nc:6|nw:2" in scores.chrf_signature
    assert all("version:" in line for line in (scores.bleu_signature, scores.chrf_signature))


@pytest.mark.parametrize(
    ("language", "tokenizer", "said", "wanted"),
    [
        # Five signs of which the fourth differs: n-grams of 1 to 4 signs are right in 4/5, 2/4, 1/3 and 0/2.
        ("zh", "zh", "一只狗在跑", "一只狗不跑"),
        ("yue", "zh", "一只狗在跑", "一只狗不跑"),
        ("ja", "char", "いぬがはし", "いぬがのし"),
        ("ko", "char", "큰개가뛰다", "큰개가놀다"),
        ("th", "char", "กขคงจ", "กขคฉจ"),
        ("km", "char", "កខគឃង", "កខគចង"),
        ("lo", "char", "ກຂຄງຈ", "ກຂຄສຈ"),
        ("my", "char", "ကခဂဃင", "ကခဂစင"),
    ],
)
def test_a_script_without_spaces_is_cut_into_signs(
    monkeypatch: pytest.MonkeyPatch, language: str, tokenizer: str, said: str, wanted: str
) -> None:
    monkeypatch.setattr("langadapt.models.translator.find_spec", lambda name: None)  # no MeCab
    scores = translation_scores([said], [wanted], language=language)
    smoothed = 1 / (2 * 2)  # sacrebleu's default: the first n-gram count of zero counts as a half
    assert scores.bleu == pytest.approx(100 * (4 / 5 * 2 / 4 * 1 / 3 * smoothed) ** 0.25, abs=1e-6)
    assert f"tok:{tokenizer}|" in scores.bleu_signature
    # chrF++: letters of 1 to 5 right in 4/5, 2/4, 1/3, 0, 0 (there are no six); one word, which is wrong.
    assert scores.chrf == pytest.approx(100 * (4 / 5 + 2 / 4 + 1 / 3) / 6, abs=1e-6)


@pytest.mark.parametrize(("said", "wanted"), [(["a"], []), ([], []), (["a"], ["a", "b"])])
def test_other_numbers_of_rows_are_refused(said: list[str], wanted: list[str]) -> None:
    with pytest.raises(DataError, match="each row needs both"):
        translation_scores(said, wanted, language="en")
