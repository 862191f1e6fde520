"""Read JSON that may be damaged or hostile: whatever is wrong with it is a ValueError.

Exports carry the text of this file.
"""

import json
import math
from pathlib import Path
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: not JSON, nested too deeply, or a number that float64 cannot hold.
    """
    try:
        return json.loads(text, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Parse a file of UTF-8; raise as `parse_json`, or OSError."""
    return parse_json(path.read_text(encoding="utf-8"))


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    return value
