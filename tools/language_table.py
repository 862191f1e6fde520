"""Write the table of docs/languages.md from the recipes: corpora, test sets, licences, what is got by hand.

`python -m tools.language_table` rewrites the part between the two marks.
"""

from pathlib import Path

from langadapt.recipes import (
    AlignedFiles,
    LanguageRecipe,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    TableFiles,
    TarShards,
    all_data_recipes,
    find_language,
    shipped_languages,
)
from langadapt.recipes.authoring import available
from langadapt.recipes.data import DataCard

DOCUMENT = Path(__file__).parents[1] / "docs" / "languages.md"
BEGIN, END = "<!-- table: python -m tools.language_table -->", "<!-- end of table -->"


def by_hand(card: DataCard) -> bool:
    """Whether a person has to put files into place before the recipe can be read."""
    if isinstance(card, ParallelRecipe | PairsRecipe):
        return isinstance(card.source, TableFiles | AlignedFiles | TarShards)
    if isinstance(card, RetrievalRecipe):
        remote = card.images in (None, "inside") or str(card.images).startswith(("http://", "https://"))
        return card.source is None or not remote
    return True


def steps(recipe: LanguageRecipe, cards: dict[str, DataCard]) -> dict[str, int]:
    """Count what a person does by hand before a command works.

    `distill` needs every corpus of the recipe, `eval` one test set, `publish` a run and its scores.
    """
    train = sum(by_hand(cards[name]) for name in recipe.distill.data)
    score = int(all(by_hand(cards[name]) for name in recipe.evaluate))
    return {"distill": train, "eval": score, "publish": train + score}


def table() -> str:
    """The table, with a line per language, and the list of licences."""
    corpora, sets = all_data_recipes(ParallelRecipe), all_data_recipes(RetrievalRecipe)
    parallel, tests = [found.recipe for found in corpora], [found.recipe for found in sets]
    file_of = {found.recipe.name: found.path.stem for found in corpora}
    file_of |= {found.recipe.name: found.path.stem for found in sets}
    cards: dict[str, DataCard] = {card.name: card for card in (*parallel, *tests)}
    lines = [
        "| language | trained on, unless said otherwise | also there | scored on | steps by hand |",
        "|---|---|---|---|---|",
    ]
    for name in shipped_languages():
        recipe = find_language(name).recipe
        if name != recipe.code:  # variants share their data
            continue
        there = available(recipe, parallel, tests)
        default = [
            file_of[card.name] + (f" ({card.expected_rows:,})" if card.expected_rows else "")
            for card in there.parallel
            if card.name in recipe.distill.data
        ]
        others = [file_of[card.name] for card in there.parallel if card.name not in recipe.distill.data]
        scored = [
            file_of[card.name] + ("\\*" if by_hand(card) else "" if card.images else " (text)")
            for card in there.retrieval
            if card.name in recipe.evaluate
        ]
        hands = sum(steps(recipe, cards).values()) or "none"
        mark = "" if recipe.prompts else " ¹"
        cells = (f"{recipe.name} `{name}`{mark}", *map(", ".join, (default, others, scored)), str(hands))
        lines.append(f"| {' | '.join(cells)} |")
    licences = {(file_of[card.name], card.licence) for card in (*parallel, *tests)}
    lines += ["", "| data | licence |", "|---|---|"]
    lines += [f"| {family} | {licence} |" for family, licence in sorted(licences)]
    return "\n".join(lines)


def written(text: str) -> str:
    """Return a document with its table made anew."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8")), encoding="utf-8")
