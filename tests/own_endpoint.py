"""Makes this process ask a server of its own instead of the Hub."""

from pathlib import Path

import pytest
from huggingface_hub import constants


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str, *, cache: Path) -> None:
    """Points huggingface_hub, which reads its environment once, to another server and an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
