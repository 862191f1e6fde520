"""Paths as users write them: links and `~`, also those that lead nowhere."""

import os
from pathlib import Path


def real_path(path: str | Path) -> Path:
    """Return an absolute path without links; a loop of links, at which `Path.resolve` raises, stays."""
    return Path(os.path.realpath(path))


def user_path(path: str | Path) -> Path:
    """Return a path with the home folder for `~`; nobody's home, at which `Path.expanduser` raises, stays."""
    return Path(os.path.expanduser(path))
