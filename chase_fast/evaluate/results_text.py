"""Numbers in result files: tables of boxes and times as text."""

from pathlib import Path

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.files import read_bytes


def parse_table(text: str, where: str, columns: int | None = None) -> np.ndarray:
    """Lines of numbers -> [lines, columns] float64.

    Delimiters are commas, tabs or spaces, line ends may be CRLF, `nan` in any case is a number, a last
    empty line is none. With `columns` None the first line says how many there are.

    Raises:
        ChaseError: no lines, a line that is not `columns` numbers, an infinite number. It names `where` and
            the line.
    """
    lines = text.rstrip().splitlines()
    if not lines:
        raise ChaseError(f"{where} is empty: run the tracker on this sequence again")
    rows = [line.replace(",", " ").split() for line in lines]
    columns = columns or len(rows[0])
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape != (len(rows), columns) or np.isinf(table).any():
        raise _wrong_line(lines, rows, columns, where)
    return table


def _wrong_line(lines: list[str], rows: list[list[str]], columns: int, where: str) -> ChaseError:
    expected = f"{columns} number{'s' if columns > 1 else ''}"
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), 1):
        if len(row) != columns or not all(_finite_or_nan(token) for token in row):
            return ChaseError(f"{where} line {number}: {line.strip()[:60]!r} is not {expected}")
    return ChaseError(f"{where} is not a table of {expected} per line")


def _finite_or_nan(token: str) -> bool:
    try:
        return not np.isinf(float(token))
    except ValueError:
        return False


def read_table(path: Path, columns: int | None = None) -> np.ndarray:
    """The table in a file, see `parse_table`.

    Raises:
        ChaseError: the file cannot be read, is no text, or is no such table.
    """
    try:
        return parse_table(read_bytes(path).decode("utf-8-sig"), str(path), columns)
    except OSError as e:
        raise ChaseError(f"cannot read {path}: {e.strerror or e}") from e
    except UnicodeDecodeError:
        raise ChaseError(f"{path} is not a text file: give the result file of a tracker") from None


def format_table(table: np.ndarray, form: str, delimiter: str = ",") -> str:
    """[lines, columns] as text, every number by a %-format, every line ended by a newline."""
    return "".join(delimiter.join(form % value for value in row) + "\n" for row in table.tolist())
