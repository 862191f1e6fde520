"""The command line: a command finds a recipe, calls one function, prints."""

import sys

from langadapt.cli.app import app
from langadapt.errors import LangadaptError


def main() -> None:
    """Runs the command line. What a user can mend is one line and exit code 2; a bug shows its traceback."""
    try:
        app()
    except LangadaptError as error:
        sys.stderr.write(f"langadapt: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nlangadapt: stopped; the same command goes on from the last checkpoint\n")
        sys.exit(130)
