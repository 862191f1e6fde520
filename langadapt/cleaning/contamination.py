"""Contamination: captions and images of test sets in training data, equal ones and near copies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from langadapt.cleaning.duplicates import bags, bags_near, edits_within, mix, segments
from langadapt.cleaning.words import TokenRows, decoded, fold_key, fold_tokens, token_rows, without_entities
from langadapt.data.images import ImageFile, open_image
from langadapt.data.pairs import Pairs
from langadapt.data.retrieval import RetrievalSet, load_captions, load_retrieval
from langadapt.data.tokens import consecutive
from langadapt.errors import DataError, MissingDataError, Progress, Report
from langadapt.files.fetch import local_only
from langadapt.recipes import LanguageRecipe, RetrievalRecipe, data_recipe
from langadapt.recipes.find import RecipeFile

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Key = TypeVar("Key")

SHORTEST = 3
"""Captions of fewer words are compared with nothing: `dogs` is no leak."""

MOST_BITS = 8
"""Differing bits of 64 up to which two pictures are compared closely: copies differ in fewer."""

LEAST_LIKENESS = 0.97
"""Correlation of two thumbnails from which they are one picture: scaled, compressed and brightened copies of
photos reach 0.98, other photos and drawn scenes with one background 0.95."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """One side of a test set's captions: `english` or in the language."""

    set_name: str
    english: bool
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class SideIndex:
    """One side of all test sets, made for looking up: keys of whole captions and of their thirds."""

    keys: U64
    tokens: TokenRows
    bags: U64
    parts: tuple[tuple[U64, I64], ...]
    """For each variant and third: sorted hashes and the captions that they belong to."""


def index_captions(captions: Sequence[Captions]) -> tuple[SideIndex, SideIndex]:
    """Index the captions of all test sets, the English side first."""
    english, target = (
        _side_index({text for item in captions if item.english is side for text in item.texts})
        for side in (True, False)
    )
    return english, target


def _side_index(texts: set[str]) -> SideIndex:
    mended = {decoded(without_entities(text)) for text in texts}  # as training texts are, unless told not to
    words = [row for row in map(fold_tokens, sorted(texts | mended)) if len(row) >= SHORTEST]
    tokens = token_rows(words)
    keys = np.array([fold_key(row) for row in words], np.uint64)
    return SideIndex(keys=keys, tokens=tokens, bags=bags(tokens), parts=tuple(_sorted_parts(tokens)))


def leaked_exactly(index: SideIndex, keys: U64, lengths: I64) -> NDArray[np.bool_]:
    """Find texts, by `fold_key` and number of words, `[R]` each, that equal a caption."""
    return np.isin(keys, index.keys) & (lengths >= SHORTEST)


def nearest_caption(index: SideIndex, rows: TokenRows, most_share: float) -> NDArray[np.float32]:
    """Return each text's edits to the nearest caption by words of the longer one, `[R]`; inf without one.

    At most `most_share` of the words may be inserted, deleted or substituted. Below 1/3 nothing is missed but
    a text whose both ends changed their lengths.
    """
    found = np.full(len(rows), np.inf, np.float32)
    if not len(index.tokens) or not len(rows):
        return found
    own = bags(rows)
    for text, caption in _candidates(index, rows):
        longer = np.maximum(rows.lengths[text], index.tokens.lengths[caption])
        most = np.floor(most_share * longer).astype(np.int64)
        for number in np.flatnonzero(bags_near(own, text, index.bags, caption, most)).tolist():
            row, other, limit = int(text[number]), int(caption[number]), int(most[number])
            edits = edits_within(rows.row(row).tolist(), index.tokens.row(other).tolist(), limit)
            if edits <= limit:
                found[row] = min(found[row], edits / int(longer[number]))
    return found


def _sorted_parts(rows: TokenRows) -> Iterator[tuple[U64, I64]]:
    for parts in segments(rows, thirds=True):
        captions = np.flatnonzero(parts[0])
        for part in range(3):
            keys = mix(parts[part][captions] + np.uint64(part))
            order = np.argsort(keys, kind="stable")
            yield keys[order], captions[order]


def _candidates(index: SideIndex, rows: TokenRows) -> Iterator[tuple[I64, I64]]:
    """Yield texts and captions that share a third; each variant of a text meets both of the captions."""
    for number, (keys, texts) in enumerate(_sorted_parts(rows)):
        for variant in range(2):
            known, captions = index.parts[3 * variant + number % 3]
            low = np.searchsorted(known, keys, side="left")
            many = np.searchsorted(known, keys, side="right") - low
            for start in range(0, len(keys), 2000):
                few = slice(start, start + 2000)
                yield np.repeat(texts[few], many[few]), captions[consecutive(low[few], many[few])]


def test_captions(language: RecipeFile[LanguageRecipe]) -> tuple[list[Captions], list[str]]:
    """Read both sides of a language's test sets, and one line for each set that is not on this machine."""
    captions: list[Captions] = []
    missing: list[str] = []
    for name in language.recipe.evaluate:
        try:
            with local_only():
                captions += captions_of(data_recipe(RetrievalRecipe, name, folder=language.folder))
        except MissingDataError as error:
            missing.append(str(error))
    return captions, missing


def captions_of(recipe: RecipeFile[RetrievalRecipe]) -> list[Captions]:
    """Read both sides of a test set, or one where it has no English or is itself English."""
    texts, english = load_captions(recipe)
    is_english = recipe.recipe.language == "en"
    sides = [Captions(set_name=recipe.recipe.name, english=is_english, texts=texts)]
    if english:
        sides.append(Captions(set_name=recipe.recipe.name, english=True, texts=english))
    return sides


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits that say where brightness rises from left to right in a 9 x 8 thumbnail.

    It stays nearly the same when an image is scaled, compressed or changed in brightness; a mirrored or
    cropped image gets another one.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def leaked_images(
    train: Mapping[Key, ImageFile], test: Mapping[str, ImageFile], report: Report
) -> dict[Key, str]:
    """Find training images that are test images, whatever their names, and the test image that each is.

    An image that cannot be read is no other's copy.
    """
    if not test:
        return {}
    names = list(test)
    known = np.array(list(_hashes([test[name] for name in names], "test images", report)), np.uint64)
    found = {}
    hashes = _hashes(list(train.values()), "training images", report)
    for key, value in zip(train, hashes, strict=True):
        # 0 says one colour all over, where all pictures are alike, or unreadable.
        near = np.flatnonzero((np.bitwise_count(known ^ np.uint64(value)) <= MOST_BITS) & (known != 0))
        if not len(near) or value == 0:
            continue
        own = _thumbnail(open_image(train[key]))
        like = [float((own * _thumbnail(open_image(test[names[i]]))).mean()) for i in near.tolist()]
        if max(like) >= LEAST_LIKENESS:
            found[key] = names[int(near[like.index(max(like))])]
    return found


def _thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """Return brightness in 24 x 24 places, of mean 0 and variance 1."""
    grey = np.asarray(image.convert("L").resize((24, 24), Image.Resampling.LANCZOS), np.float32)
    grey -= grey.mean()
    scaled: NDArray[np.float32] = grey / max(float(np.sqrt((grey**2).mean())), 1e-6)
    return scaled


def _hashes(images: Sequence[ImageFile], stage: str, report: Report) -> Iterator[int]:
    for number, image in enumerate(images, start=1):
        try:
            value = difference_hash(open_image(image))
        except DataError:  # the reader of the set says so, where its images are needed
            value = 0
        yield value
        report(Progress(stage=f"{stage} compared", done=number, total=len(images)))


def local_test_sets(names: Sequence[str], report: Report) -> list[RetrievalSet]:
    """Load those of some retrieval test sets that are on this machine with images; report the others."""
    found = []
    for name in names:
        try:
            with local_only():
                test = load_retrieval(data_recipe(RetrievalRecipe, name))
        except MissingDataError:
            report(Progress(stage=f"{name} is not here: training images were not compared with its images"))
        else:
            found += [] if test.images is None else [test]
    return found


def leaks(pairs: Pairs, tests: Sequence[RetrievalSet], report: Report) -> dict[int, str]:
    """Find images of the pairs, by number, that are test images, whatever their names."""
    test = {f"{found.name}: {path}": path for found in tests for path in found.images or ()}
    return leaked_images(dict(enumerate(pairs.images)), test, report)


def without_test_images(
    pairs: Pairs, tests: Sequence[RetrievalSet], *, keep: bool, report: Report
) -> tuple[Pairs, str]:
    """Compare the images of pairs with those of test sets; drop the test images, or keep and count them.

    Return also what is known of them: `unchecked`, `dropped` or `kept(n)`, n captions.
    """
    if not tests:
        return pairs, "unchecked"
    found = list(leaks(pairs, tests, report))
    rows = int(np.isin(pairs.image_of_text, found).sum())
    if not found:
        return pairs, "dropped"
    done = "kept, and every score says so" if keep else "left out"
    report(Progress(stage=f"{pairs.name}: {len(found)} images are test images; {rows} captions {done}"))
    if keep:
        return pairs, f"kept({rows})"
    if len(found) == len(pairs.images):
        raise DataError(f"{pairs.name}: every image is an image of {tests[0].name}, on which it is scored")
    return pairs.without(found), "dropped"
