"""Plain-text tables of results."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Align rows in columns: the first column to the left, the others to the right.

    Arguments
    ---------
    rows : Sequence[Sequence[object]]
        Cells of each row, as many as in `header`; floats get three decimals.
    header : Sequence[str]
        Column names.

    Returns
    -------
    str
        Lines without a newline at the end.

    Example
    -------
    >>> print(text_table([["loss", 1.5], ["steps", 12]], ["", "value"]))
           value
    -----  -----
    loss   1.500
    steps     12
    """
    cells = [[str(name) for name in header]]
    cells += [[_shown(value) for value in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
