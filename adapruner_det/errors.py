"""The one exception that means: what the user gave is at fault, not the code."""


class DataError(ValueError):
    """An error in what the user gave: tools print it as one line and exit with 2.

    Its message says what was wrong, what was expected and what to do, on one line.
    """
