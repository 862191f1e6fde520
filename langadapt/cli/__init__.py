"""The command line: a command finds a recipe, calls one function, prints."""

import errno
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
    except OSError as error:
        # A full disk, a read-only folder: the user can mend it. Anything else of the system is a bug here.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        sys.stderr.write(
            f"langadapt: {error.filename or 'output'}: {error.strerror}; nothing was overwritten\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\nlangadapt: stopped; the same command goes on from the last checkpoint\n")
        sys.exit(130)
