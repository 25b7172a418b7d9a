"""Tables for a terminal, which stay readable where the output is piped."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000  # columns


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table whose columns are aligned to the right, except the first.

    In a narrow terminal the first column wraps between words; the others never do. Piped output is as wide as it has to
    be, without colours.

    Args:
        header: Names of the columns.
        rows: The cells, each row as long as the header.
        title: A line above the table, which is then indented; empty for none.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    table = Padding(_table(header, rows), (0, 0, 0, 2 if title else 0), expand=False)
    needed = Measurement.get(console, console.options.update(width=_UNLIMITED), table)
    console.width = max(console.width, needed.minimum if console.is_terminal else needed.maximum)
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, cells in enumerate(zip(header, *rows, strict=True)):
        if number == 0:
            longest = max(cell_len(word) for cell in cells for word in (cell.split() or [""]))
            table.add_column(cells[0], overflow="fold", min_width=longest)
        else:
            table.add_column(cells[0], justify="right", no_wrap=True, min_width=max(map(cell_len, cells)))
    for row in rows:
        table.add_row(*row)
    return table
