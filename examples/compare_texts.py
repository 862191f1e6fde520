"""How near texts of one or several runs of the same teacher are to an English text, by CLIP's own measure.

python examples/compare_texts.py "a red dog" runs/zh=一只红色的狗 runs/de="ein roter Hund"
"""

import sys

import langadapt


def main(english: str, *texts: str) -> None:
    for item in texts:
        run, _, text = item.rpartition("=")
        model = langadapt.load(run)
        target = model.teacher.text.embed([english])
        similarity = (model.encode_text([text]) @ target.T).item()
        print(f"{similarity:.3f}  {text}  ({model.artifact.recipe.name})")


if __name__ == "__main__":
    main(*sys.argv[1:])
