"""A language of the embedded world in a script that its text model has never seen.

Constructed: Swahili captions, respelled letter by letter in Georgian letters. Nobody writes Swahili so; it
stands for the many languages whose letters a tokenizer does not know. Its code is one of those that ISO 639-3
leaves to local use.
"""

from __future__ import annotations

from pathlib import Path

from langadapt.files.atomic import write_text
from langadapt.quickstart.recipes import LANGUAGES, Language, recipe_files

CODE = "qsw"
_FROM = "sw"
LETTERS = dict(zip("abcdefghijklmnoprstuvwyz", "აბცდეფგჰიჯკლმნოპრსტუვწყზ", strict=True))


def respell(text: str) -> str:
    """Swahili in Georgian letters, which have no capitals; what is no letter of Swahili stays."""
    return "".join(LETTERS.get(letter, letter) for letter in text.lower())


_SWAHILI = LANGUAGES[_FROM]
LANGUAGE = Language(
    name="Swahili in Georgian letters (constructed)",
    native_name=respell(_SWAHILI.native_name),
    iso639_3=CODE,
    script="Geor",
    prompts=tuple(respell(text).replace(respell("{label}"), "{label}") for text in _SWAHILI.prompts),
    examples=tuple(respell(text) for text in _SWAHILI.examples),
)


def write_unseen_script(folder: Path) -> Path:
    """Adds the language to a world that `write_world` wrote.

    Args:
        folder: of the world.

    Returns:
        Its recipe, which is the one of the world's Swahili but for names and files.
    """
    tables = {"parallel.en-{}.tsv": "target", "test.{}.tsv": "caption"}
    rows = {}
    for name, column in tables.items():
        header, *lines = (folder / name.format(_FROM)).read_text(encoding="utf-8").splitlines()
        place = header.split("\t").index(column)
        cells = [line.split("\t") for line in lines]
        new = [[*row[:place], respell(row[place]), *row[place + 1 :]] for row in cells]
        write_text(folder / name.format(CODE), "\n".join([header, *map("\t".join, new)]) + "\n")
        rows[column] = len(new)
    files = recipe_files(CODE, LANGUAGE, parallel=rows["target"], tests=rows["caption"])
    for name, text in files.items():
        write_text(folder / name, text)
    return folder / f"{CODE}.yaml"
