"""The line that stands beside a score."""

import dataclasses

import pytest

from langadapt.errors import DataError
from langadapt.metrics.signature import Signature, comparable

SIGNATURE = Signature(
    benchmark="val",
    images=1000,
    captions=5000,
    which="all",
    language="zh",
    text="org/text@0123abc+adapter@9f",
    image="openai/clip-vit-base-patch32@3d74acf",
)
LINE = (
    "benchmark:val|images:1000|captions:5000|which:all|language:zh|k:1,5,10|ties:against|duplicates:strict"
    "|text:org/text@0123abc+adapter@9f|image:openai/clip-vit-base-patch32@3d74acf|version:1"
)


def test_line() -> None:
    assert str(SIGNATURE) == LINE


def test_round_trip() -> None:
    assert Signature.parse(LINE) == SIGNATURE
    with_colon = dataclasses.replace(SIGNATURE, text="file:model: final", benchmark="my set: 2")
    assert Signature.parse(str(with_colon)) == with_colon


@pytest.mark.parametrize("value", ["", "a|b", "a\nb", "a\n"])
def test_values_that_would_not_come_back_are_refused(value: str) -> None:
    with pytest.raises(DataError, match="signature: benchmark"):
        dataclasses.replace(SIGNATURE, benchmark=value)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "benchmark",
        LINE + "|more:1",
        LINE.replace("|which:all", ""),
        LINE + "|k:1",
        LINE.replace("1000", "many"),
    ],
)
def test_lines_that_are_no_signature_are_refused(line: str) -> None:
    with pytest.raises(DataError, match="signature: "):
        Signature.parse(line)


def test_only_the_text_model_may_differ() -> None:
    def differing(**changes: object) -> list[str]:
        return comparable(LINE, str(dataclasses.replace(SIGNATURE, **changes)))  # type: ignore[arg-type]

    assert differing() == []
    assert differing(text="another") == []
    assert differing(text="another", image="another") == ["image"]
    assert differing(captions=1000, which="first") == ["captions", "which"]
    assert differing(duplicates="tolerant", version="2") == ["duplicates", "version"]


def test_a_key_of_another_version_is_a_difference() -> None:
    assert comparable(LINE, LINE.replace("|duplicates:strict", "")) == ["duplicates"]
    assert comparable(LINE, LINE + "|pool:full") == ["pool"]
