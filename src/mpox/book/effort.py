"""How long a chapter takes to read."""

import math
import re

from nbformat import NotebookNode

WORDS_A_MINUTE = 200
SECONDS_A_LINE = 2
SECONDS_A_FIGURE = 20
_STEP = 5  # minutes; an estimate like this deserves no finer one
_WORD = re.compile(r"[^\W_]\w*")
_LEFT_OUT = {"exercise", "solution", "parameters", "injected-parameters"}


def reading_minutes(notebook: NotebookNode) -> int:
    """Minutes that reading takes, without the exercises, rounded up to five.

    200 words of prose a minute (silent reading of non-fiction is at 238, Brysbaert 2019, J. Memory and Language 109:104047;
    technical prose is slower), two seconds for a line of program, twenty for a figure. The computed sentences count where the
    notebook has been executed.

    Parameters
    ----------
    notebook : NotebookNode
        A chapter, executed or not.

    Returns
    -------
    int
        5 or more.
    """
    words = lines = figures = 0
    for cell in notebook.cells:
        if _LEFT_OUT & set(cell.metadata.get("tags", [])):
            continue
        if cell.cell_type == "markdown":
            words += len(_WORD.findall(cell.source))
        elif cell.cell_type == "code":
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            figures += "figure" in cell.metadata.get("mystnb", {})
            words += sum(len(_WORD.findall("".join(text))) for text in _sentences(cell))
    seconds = 60 * words / WORDS_A_MINUTE + SECONDS_A_LINE * lines + SECONDS_A_FIGURE * figures
    return max(_STEP, _STEP * math.ceil(seconds / 60 / _STEP))


def _sentences(cell: NotebookNode) -> list[str]:
    return [output["data"]["text/markdown"] for output in cell.outputs if "text/markdown" in output.get("data", {})]
