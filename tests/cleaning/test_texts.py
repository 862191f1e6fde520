"""What is mended in a text, and what two texts are compared by."""

import pytest

from langadapt.cleaning.words import NORMALISERS, ScriptShare, fold_key, fold_tokens
from langadapt.errors import DataError


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        ("plain", "plain"),
        ("  a \u00a0\tb\u3000c\n", "a b c"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("a\x00b\x1bc\ufeff\u200e", "abc"),
        ("soft\u00adhyphen \u202bturned\u202c", "softhyphen turned"),
        ("half \ud83d pair", "half pair"),
        ("\u061cسلام\u180e", "سلام"),
        ("salt &amp; pepper &amp;lt;3 &#39;x&#39; AT&T &copy", "salt & pepper <3 'x' AT&T &copy"),
        ("cafÃ© â\x80\x99s â€œbarâ€\x9d", "café ’s “bar”"),
        ("ä¸\x80å\x8fªç\x8b\x97", "一只狗"),
        ("&Atilde;&copy;", "é"),
        # Right as they are: full-width signs, curly quotes, ligatures.
        ("“狗”，ＡＢ！ ﬁn SÃO À TOA «é»", "“狗”，ＡＢ！ ﬁn SÃO À TOA «é»"),
        # These spell words: Persian's joiner, Khmer's word break.
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ភាសា\u200bខ្មែរ", "ភាសា\u200bខ្មែរ"),
    ],
)
def test_mending(raw: str, mended: str) -> None:
    for normalise in NORMALISERS.values():
        raw = normalise(raw)
    assert raw == mended


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A DOG, 2 cats!", ["a", "dog", "2", "cats"]),
        ("Straße ÉCOLE ﬁn", ["strasse", "école", "fin"]),
        ("一只狗。Tom游泳", ["一", "只", "狗", "tom", "游", "泳"]),
        # Vowel signs belong to their words.
        ("नमस्ते, दुनिया।", ["नमस्ते", "दुनिया"]),
        ("Ọjọ́ dára", ["ọjọ́", "dára"]),
        ("... !?", []),
    ],
)
def test_words_as_they_are_compared(text: str, tokens: list[str]) -> None:
    import unicodedata

    assert fold_tokens(text) == [unicodedata.normalize("NFKC", token) for token in tokens]


def test_keys_ignore_case_punctuation_and_spaces_only() -> None:
    same = ["A dog's life.", "a DOGS life", "A dog s life!", "adogslife"]
    assert len({fold_key(fold_tokens(text)) for text in same}) == 1
    others = ["a dogs wife", "a dogs lifes", "a dógs life"]
    assert len({fold_key(fold_tokens(text)) for text in [*same, *others]}) == 4


@pytest.mark.parametrize(
    ("scripts", "text", "share"),
    [
        (["Latn"], "abc def", 1.0),
        (["Cyrl"], "abc дом", 0.5),
        (["Hans"], "Tom 游泳", 2 / 3),
        (["Jpan"], "猫がいる", 1.0),
        (["Hans"], "猫がいる", 0.25),
        (["Ethi"], "ሰላም ለዓለም", 1.0),
        (["Arab", "Latn"], "سلام hello 123", 1.0),
        (["Deva"], "123 456", 1.0),
    ],
)
def test_script_share(scripts: list[str], text: str, share: float) -> None:
    assert ScriptShare(scripts=scripts)(fold_tokens(text)) == pytest.approx(share)


def test_a_script_that_nobody_knows_is_refused() -> None:
    with pytest.raises(DataError, match="script Xxxx is not known"):
        ScriptShare(scripts=["Xxxx"])
