"""Teach CLIP a language with a table of sentences and their translations, and score it on held-out ones.

python examples/train_on_csv.py sw my.csv runs/sw
"""

import sys

import langadapt


def main(language: str, table: str, out: str) -> None:
    langadapt.distill(language, out, data=[table])
    for card in langadapt.evaluate(out):
        print(card.sentence)


if __name__ == "__main__":
    main(*sys.argv[1:])
