"""Whatever is wrong with JSON is a ValueError, so that who reads it says one line."""

import json
from pathlib import Path

import pytest

import langadapt
from langadapt.files.json import parse_json, read_json

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", DEEP, '{"a":' * 50_000, "1e999", "[-1e400]", "Infinity", '"a', "9" * 5_000],
    ids=range(10),
)
def test_what_is_wrong_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{"a": [1, -2.5e300, True, None, "é"]}, [], 10**30, 0.1])
def test_what_is_right_is_read_as_the_standard_library_does(value: object) -> None:
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text) == value


def test_only_one_module_parses_json() -> None:
    """What tokenizers and pydantic wrote a moment ago is not foreign."""
    package = Path(langadapt.__file__).parent
    callers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "json.load" in line and "to_str()" not in line and "model_dump_json" not in line
    }
    assert callers == {"files/json.py"}
