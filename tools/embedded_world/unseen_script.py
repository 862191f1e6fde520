"""A language of the embedded world in a script that its text model has never seen.

Constructed: Swahili captions, respelled letter by letter in Georgian letters. Nobody writes Swahili so; it
stands for the many languages whose letters a tokenizer does not know. Its code is one of those that ISO 639-3
leaves to local use.
"""

from pathlib import Path

from langadapt.files.atomic import write_text
from langadapt.quickstart.world import CAPTIONS_PER_SCENE, data_recipe_texts
from langadapt.recipes import dump_recipe, find_language

CODE = "qsw"
NAME = "Swahili in Georgian letters (constructed)"
_FROM = "sw"
LETTERS = dict(zip("abcdefghijklmnoprstuvwyz", "აბცდეფგჰიჯკლმნოპრსტუვწყზ", strict=True))


def respell(text: str) -> str:
    """Respell Swahili in Georgian letters, which have no capitals; what is no letter of Swahili stays."""
    return "".join(LETTERS.get(letter, letter) for letter in text.lower())


def write_unseen_script(folder: Path) -> Path:
    """Add the language to a world that `write_world` wrote.

    Args:
        folder: Of the world.

    Returns:
        Its recipe, which is the one of the world's Swahili but for names, texts and files.
    """
    tables = {"parallel.en-{}.tsv": "target", "test.{}.tsv": "caption"}
    rows = {}
    for name, column in tables.items():
        header, *lines = (folder / name.format(_FROM)).read_text(encoding="utf-8").splitlines()
        index = header.split("\t").index(column)
        cells = [line.split("\t") for line in lines]
        new = [[*row[:index], respell(row[index]), *row[index + 1 :]] for row in cells]
        write_text(folder / name.format(CODE), "\n".join([header, *map("\t".join, new)]) + "\n")
        rows[column] = len(new)
    texts = data_recipe_texts(
        CODE, NAME, parallel=rows["target"], tests=rows["caption"] // CAPTIONS_PER_SCENE
    )
    for name, text in texts.items():
        write_text(folder / name, text)
    swahili = find_language(str(folder / _FROM)).recipe
    recipe = swahili.model_copy(
        update={
            "code": CODE,
            "name": NAME,
            "native_name": respell(swahili.native_name),
            "iso639_3": CODE,
            "scripts": ("Geor",),
            "prompts": tuple(
                respell(text).replace(respell("{label}"), "{label}") for text in swahili.prompts
            ),
            "examples": tuple(respell(text) for text in swahili.examples),
            "distill": swahili.distill.model_copy(update={"data": (f"parallel.en-{CODE}.yaml",)}),
            "evaluate": (f"test.{CODE}.yaml",),
        }
    )
    write_text(folder / f"{CODE}.yaml", dump_recipe(recipe))
    return folder / f"{CODE}.yaml"
