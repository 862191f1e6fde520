"""Which of a few languages a text is in: by its letters where they tell, else by py3langid."""

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from langadapt.errors import DataError, ModelError
from langadapt.recipes import LanguageRecipe

LEAST_CERTAINTY = 0.8
"""Below it a text belongs to no language."""


def detect(texts: Sequence[str], recipes: Sequence[LanguageRecipe]) -> list[str]:
    """Codes of the languages that texts are in.

    A language is left out when most letters of the text are of scripts that its own name and examples do not
    use; where a recipe lists several scripts it never is. If more than one language is left, py3langid
    decides between them.

    Args:
        texts: none empty.
        recipes: of the languages that come into question.

    Raises:
        DataError: a text fits none of them, or more than one almost as well.
        ModelError: py3langid is needed and not installed, or does not know one of the languages.
    """
    alphabets = {recipe.code: _alphabet(recipe) for recipe in recipes}
    return [_language(row, text, alphabets) for row, text in enumerate(texts)]


def _language(row: int, text: str, alphabets: dict[str, frozenset[str] | None]) -> str:
    script = most_common_script(text)
    left = [code for code, own in alphabets.items() if script and (own is None or script in own)]
    if len(left) == 1:
        return left[0]
    code, certainty = _identify(text, frozenset(left)) if left else ("", 0.0)
    if certainty < LEAST_CERTAINTY:
        shown = text if len(text) <= 30 else text[:29] + "…"
        raise DataError(
            f"text {row} ({shown!r}): cannot tell which of {', '.join(alphabets)} it is in; say its language"
        )
    return code


def most_common_script(text: str) -> str:
    """The script of most letters as Unicode's names begin (`LATIN`, `CJK`); empty without a letter."""
    counts = Counter(_script(letter) for letter in text)
    counts.pop("", None)
    return max(counts, key=counts.__getitem__, default="")


def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "").removeprefix("FULLWIDTH ").partition(" ")[0]


def _alphabet(recipe: LanguageRecipe) -> frozenset[str] | None:
    """Scripts of a language's own words in its recipe; None where it is written in several."""
    if len(recipe.scripts) > 1:
        return None
    return frozenset(
        _script(letter) for text in (recipe.native_name, *recipe.examples) for letter in text
    ) - {""}


def _identify(text: str, codes: frozenset[str]) -> tuple[str, float]:
    code, certainty = _identifier(codes).classify(text)
    return str(code), float(certainty)


@functools.cache
def _identifier(codes: frozenset[str]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ModelError(
            "telling languages of one script apart needs py3langid: pip install 'langadapt[languages]', or "
            "say the language"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := sorted(codes - set(identifier.labels)):
        raise ModelError(f"py3langid does not know {', '.join(unknown)}; say the language of these texts")
    identifier.set_languages(sorted(codes))
    return identifier
