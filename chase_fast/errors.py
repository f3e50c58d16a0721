"""The one exception that users cause: a command prints its text as one line and exits with code 2."""


class ChaseError(Exception):
    """Wrong input, missing file, unusable data. The message is one line that says what to change."""
