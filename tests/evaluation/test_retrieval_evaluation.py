"""A student between its ceiling and its floor, scored by a slow oracle from outside."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from tiny_language import sentences
from tiny_pictures import noise

import langadapt
from langadapt.data.images import open_image
from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import DataError
from langadapt.evaluation.page import example_searches
from langadapt.evaluation.retrieval import ScoreCard, best_images, card_warnings, evaluate_retrieval
from langadapt.metrics.retrieval import RetrievalScores
from langadapt.metrics.signature import signature_values
from langadapt.models import LanguageModel
from langadapt.models.caches import stored_images
from langadapt.recipes import find_language, override
from langadapt.search.update import image_tower
from langadapt.training import RunOptions, distill

OWNERS = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 2))  # two captions of each image
# In both languages, as the teacher knows no word of the other one: captions that are one row to it would tie
# or not as rounding has it.
ROWS = [(english, f"{target} {english}") for english, target in sentences()[:144:6]]
ENGLISH, TARGET = ([row[side] for row in ROWS] for side in (0, 1))


@pytest.fixture(scope="module")
def model(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    out = tmp_path_factory.mktemp("evaluation") / "es"
    found = override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=4"])
    cpu = RunOptions(device=torch.device("cpu"))
    distill(found, out, report=lambda progress: None, options=cpu)
    return langadapt.load(out)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        noise((40, 32), 20 * number + 5, seed=number).save(folder / f"{number}.png")
    return tuple(folder / f"{number}.png" for number in range(12))


@pytest.fixture(scope="module")
def retrieval(photos: tuple[Path, ...]) -> RetrievalSet:
    return RetrievalSet(
        name="es-test",
        language="es",
        images=photos,
        texts=tuple(TARGET),
        image_of_text=OWNERS,
        english=tuple(ENGLISH),
        ceiling_texts=tuple(ENGLISH[::-1]),
        ceiling_image_of_text=OWNERS[::-1].copy(),
        which_captions="all",
    )


class Interpreter:
    """Translates as a table says."""

    label = "table@1"

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table

    def translate(self, texts: Sequence[str]) -> list[str]:
        return [self.table[text] for text in texts]


def test_a_perfect_translation_reaches_the_ceiling(model: LanguageModel, retrieval: RetrievalSet) -> None:
    perfect = Interpreter(dict(zip(TARGET, ENGLISH, strict=True)))
    card = evaluate_retrieval(retrieval, model, translator=perfect).card
    assert card.translated is not None
    assert card.ceiling is not None
    assert card.translation is not None
    assert (card.translated.t2i, card.translated.i2t) == (card.ceiling.t2i, card.ceiling.i2t)
    assert card.translation.chrf == pytest.approx(100)
    assert signature_values(card.translated.signature)["text"].endswith("+table@1")
    assert TypeAdapter(ScoreCard).validate_python(card.to_dict()) == card
    assert card_warnings([card]) == []
    none = evaluate_retrieval(retrieval, model).card
    assert none.translated is none.translation is None
    assert replace(card, translated=None, translation=None) == none


def test_scores_of_another_precision_are_not_one_comparison(
    model: LanguageModel, retrieval: RetrievalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("LANGADAPT_PRECISION", precision)
        cards.append(evaluate_retrieval(retrieval, model).card)
        signatures = [signature_values(scores.signature) for _, scores in cards[-1].rows()]
        assert {found["precision"] for found in signatures} == {f"cpu-{precision}"}
    (line,) = card_warnings(cards)
    assert line.endswith("differ in precision")


def test_a_translation_that_says_nothing_finds_nothing(model: LanguageModel, retrieval: RetrievalSet) -> None:
    """One sentence for all: every image ties with every other, and ties count against the model."""
    card = evaluate_retrieval(retrieval, model, translator=Interpreter(dict.fromkeys(TARGET, ""))).card
    assert card.translated is not None
    assert card.translated.i2t.r10 == 0.0
    assert card.translation is not None
    assert card.translation.chrf < 5


def slow_recalls(text: torch.Tensor, gallery: torch.Tensor, owners: list[int]) -> list[float]:
    """Six recalls, query by query; a wrong candidate that is as near as the right one stands before it."""
    similar = (text.double() @ gallery.double().T).tolist()

    def rank(scores: list[float], right: set[int]) -> int:
        best = max(scores[i] for i in right) - 1e-6
        return 1 + sum(score >= best for i, score in enumerate(scores) if i not in right)

    of_texts = [rank(row, {owner}) for row, owner in zip(similar, owners, strict=True)]
    of_images = [
        rank([row[image] for row in similar], {i for i, owner in enumerate(owners) if owner == image})
        for image in range(len(gallery))
    ]
    return [
        100 * sum(place <= k for place in ranks) / len(ranks)
        for ranks in (of_texts, of_images)
        for k in (1, 5, 10)
    ]


def six(scores: RetrievalScores | None) -> list[float]:
    assert scores is not None
    return [getattr(side, k) for side in (scores.t2i, scores.i2t) for k in ("r1", "r5", "r10")]


def english(model: LanguageModel, texts: list[str]) -> torch.Tensor:
    """The teacher's rows one by one, straight from its text tower."""
    rows = []
    for text in texts:
        given = model.teacher.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            rows.append(model.teacher.module.get_text_features(**given).pooler_output[0])
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def test_scores_equal_the_slow_oracle(model: LanguageModel, retrieval: RetrievalSet) -> None:
    done = evaluate_retrieval(retrieval, model)
    assert retrieval.images is not None
    gallery = model.encode_images(retrieval.images)
    torch.testing.assert_close(done.gallery, gallery, rtol=0, atol=1e-6)
    assert torch.equal(done.text, model.encode_text(TARGET))
    owners = OWNERS.tolist()
    assert six(done.card.student) == pytest.approx(slow_recalls(done.text, gallery, owners))
    assert six(done.card.ceiling) == pytest.approx(slow_recalls(english(model, ENGLISH), gallery, owners))
    assert six(done.card.floor) == pytest.approx(slow_recalls(english(model, TARGET), gallery, owners))
    assert (done.card.images, done.card.captions, done.card.image_free) == (12, 24, False)


def test_signatures_say_who_was_scored_on_what(model: LanguageModel, retrieval: RetrievalSet) -> None:
    card = evaluate_retrieval(retrieval, model).card
    assert card.student
    assert card.ceiling
    assert card.floor
    student, ceiling, floor = (
        signature_values(scores.signature) for scores in (card.student, card.ceiling, card.floor)
    )
    assert [student[key] for key in ("benchmark", "images", "captions")] == ["es-test", "12", "24"]
    assert student["text"] == model.label
    assert model.artifact.digest in student["text"]
    assert student["image"] == ceiling["text"] == floor["text"] == model.teacher.source.label
    assert (student["language"], ceiling["language"], floor["language"]) == ("es", "en", "es")


def test_without_images_texts_look_for_their_english_sides(model: LanguageModel) -> None:
    twice = [*ENGLISH[:8], *ENGLISH[:4]]
    free = RetrievalSet(
        name="es-free",
        language="es",
        images=None,
        texts=(*TARGET[:8], *TARGET[:4]),
        image_of_text=np.array([*range(8), *range(4)]),
        english=tuple(twice),
        ceiling_texts=None,
        ceiling_image_of_text=None,
        which_captions="all",
    )
    done = evaluate_retrieval(free, model)
    torch.testing.assert_close(done.gallery, english(model, ENGLISH[:8]), rtol=0, atol=1e-5)
    assert done.card.image_free
    assert done.card.ceiling is None
    assert done.card.images == 8
    assert done.card.student
    assert signature_values(done.card.student.signature)["benchmark"] == "es-free-text"
    found = slow_recalls(done.text, done.gallery, [*range(8), *range(4)])
    assert six(done.card.student) == pytest.approx(found)


def test_images_are_embedded_once_and_again_when_one_changes(
    model: LanguageModel, photos: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    copies = [tmp_path / path.name for path in photos]
    for path, copy in zip(photos, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    told: list[tuple[int, int]] = []
    first = stored_images(model.teacher, copies, progress=lambda done, total: told.append((done, total)))
    assert told == [(12, 12)]
    again = stored_images(model.teacher, photos, progress=lambda done, total: told.append((done, total)))
    assert told == [(12, 12)], "the same pictures under other names"
    assert torch.equal(first, again)

    other = replace(model.teacher, source=replace(model.teacher.source, revision="other"))
    stored_images(other, copies, progress=lambda done, total: told.append((done, total)))
    assert told.pop() == (12, 12), "another teacher"
    assert len(told) == 1

    Image.new("RGB", (40, 32), (200, 10, 10)).save(copies[3])
    changed = stored_images(model.teacher, copies, progress=lambda done, total: told.append((done, total)))
    assert told[1:] == [(1, 1)], "the one that changed"
    part = stored_images(model.teacher, photos[4:7], progress=lambda done, total: told.append((done, total)))
    assert told[1:] == [(1, 1)], "they lie in the store of the larger set"
    assert torch.equal(part, first[4:7])
    assert [i for i in range(12) if not torch.allclose(changed[i], first[i], atol=1e-6)] == [3]
    backwards = stored_images(model.teacher, copies[::-1])
    torch.testing.assert_close(backwards, changed.flip(0), rtol=0, atol=1e-6)

    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    half = stored_images(model.teacher, copies, progress=lambda done, total: told.append((done, total)))
    assert told[2:] == [(12, 12)], "in another precision"
    assert not torch.allclose(half, changed, atol=1e-6)
    torch.testing.assert_close(half, changed, rtol=0, atol=0.05)
    indexed = image_tower(model).encode([open_image(path) for path in copies])
    torch.testing.assert_close(indexed, half, rtol=0, atol=1e-6)


def test_an_image_that_cannot_be_read_is_named(
    model: LanguageModel, retrieval: RetrievalSet, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert retrieval.images is not None
    with pytest.raises(DataError, match=r"broken\.png"):
        evaluate_retrieval(replace(retrieval, images=(broken, *retrieval.images[1:])), model)


def test_a_missed_search_shows_the_right_image_last_with_its_rank(
    model: LanguageModel, retrieval: RetrievalSet
) -> None:
    done = evaluate_retrieval(retrieval, model)
    away = replace(done, text=-done.text)  # whatever was near is far
    missed = 0
    for search in example_searches(retrieval, away):
        row = retrieval.texts.index(search.query)
        assert retrieval.images is not None
        right = retrieval.images[retrieval.image_of_text[row]]
        scores = [float(away.text[row] @ item) for item in done.gallery]
        rank = sorted(scores, reverse=True).index(scores[retrieval.image_of_text[row]]) + 1
        marks = [image.missed for image in search.images if image.missed]
        assert [image.path for image in search.images if image.correct or image.missed] == [right]
        assert marks == ([f"rank {rank} of 12"] if rank > 5 else [])
        missed += bool(marks)
    assert missed > 0


def test_best_images_come_best_first(model: LanguageModel, retrieval: RetrievalSet) -> None:
    done = evaluate_retrieval(retrieval, model)
    found = best_images(done, [5, 0], count=3)
    for row, places in zip((5, 0), found, strict=True):
        similar = {i: float(done.text[row] @ done.gallery[i]) for i in range(12)}
        assert places == sorted(similar, key=lambda i: -similar[i])[:3]
    assert len(best_images(done, [0], count=50)[0]) == 12
