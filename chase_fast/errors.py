"""The errors that users cause: a command prints their text as one line and exits with code 2.

Callers from Python may catch them by what they are: every one is a ValueError, a path that is not there is a
FileNotFoundError as well. So an `except ValueError` or `except OSError` around calls that raise them needs an
`except ChaseError: raise` before it (tests/test_errors.py looks for it).
"""


class ChaseError(ValueError):
    """Wrong input, missing file, unusable data. The message is one line that says what to change."""


class MissingFile(ChaseError, FileNotFoundError):
    """A file or folder that the user names is not there."""


class NeedsImport(ChaseError):
    """A file is whole, but an operation in it is the user's own: --import FILE.py registers it."""


class Elsewhere(ChaseError):
    """Another rank has failed too and says why; this rank ends without a word."""
