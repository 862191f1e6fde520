"""Find the photos of a folder that fit a text, without an index.

python examples/search_photos.py runs/sw photos/ "mbwa anakimbia ufukweni"
"""

import sys
from pathlib import Path

import langadapt

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def main(run: str, folder: str, query: str) -> None:
    model = langadapt.load(run)
    photos = sorted(
        path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    images = model.encode_images(photos)  # float32 [N, D], normalised
    (similarity,) = model.encode_text([query]) @ images.T
    for value, index in zip(*similarity.topk(min(5, len(photos))), strict=True):
        print(f"{value:.3f}  {photos[index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
