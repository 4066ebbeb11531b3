"""The one exception that means: what the user gave is at fault, not the code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class DataError(ValueError):
    """An error in what the user gave: tools print it as one line and exit with 2.

    Its message says what was wrong, what was expected and what to do, on one line.
    """


@contextmanager
def reported() -> Iterator[None]:
    """Print a DataError as one line on stderr and exit with 2, as every tool does."""
    try:
        yield
    except DataError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from error
