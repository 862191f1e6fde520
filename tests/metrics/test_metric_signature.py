"""The line that stands beside a score."""

import dataclasses

import pytest

from langadapt.errors import DataError
from langadapt.metrics.signature import Signature, comparable, signature_values

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


def test_values_come_back() -> None:
    odd = dataclasses.replace(
        SIGNATURE, text="file:model: final", precision="cpu-float32", contaminated="kept(3)"
    )
    values = signature_values(str(odd))
    assert values == {name: str(value) for name, value in dataclasses.asdict(odd).items()}
    assert not {"precision", "contaminated"} & signature_values(LINE).keys()


@pytest.mark.parametrize("value", ["", "a|b", "a\nb", "a\n"])
def test_values_that_would_not_come_back_are_refused(value: str) -> None:
    with pytest.raises(DataError, match="signature: benchmark"):
        dataclasses.replace(SIGNATURE, benchmark=value)


@pytest.mark.parametrize("line", ["", "benchmark", LINE + "|k:1", LINE + "|:1"])
def test_lines_that_are_no_signature_are_refused(line: str) -> None:
    with pytest.raises(DataError, match="signature: "):
        signature_values(line)


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
