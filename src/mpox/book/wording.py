"""Words for the names of columns and texts for numbers, as the tables of the book show them."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

#: Column of the package's tables to its words in the book. What is not in the list is shown as it is.
COLUMN_WORDS = dict(pd.read_csv(Path(__file__).with_name("words.csv")).to_numpy())
#: Data set to the name that readers know.
TITLES = {"msld-v1": "MSLD", "msid": "MSID"}
#: Rule of assigning images to folds, or regime of training, to its words.
WORDS = {
    "source": "groups kept apart",
    "patient": "patients kept apart",
    "random_image": "image by image",
    "augment_before_split": "copies made first",
    "linear_probe": "linear probe",
    "nearest_neighbour": "nearest neighbour",
    "tail_tune": "tail-tuned",
    "fine_tune": "fine-tuned",
}
_NAMES = re.compile(rf"(?<![\w/-])({'|'.join(TITLES)})(?![\w/:-])")  # not in the id of an image
_END = re.compile(r"_(low|high|loss)$")
#: Decimals below which no p value is rounded: three, as journals ask.
P_DIGITS = 3


def column_words(name):
    """How a column of the package's tables is called in the book; names that need no words are returned as they are.

    Examples
    --------
    >>> column_words("p_holm"), column_words("f1 (macro)"), column_words("optimism_low"), column_words("random_image")
    ('p (Holm)', 'F1 (macro)', 'optimism, low', 'random_image')
    """
    if not isinstance(name, str):
        return name
    if name in COLUMN_WORDS:
        return COLUMN_WORDS[name]
    if end := _END.search(name):
        return f"{column_words(name[: end.start()])}, {end[1]}"
    head, bracket, rest = name.partition(" (")
    return column_words(head) + bracket + rest if bracket else re.sub(r"^p_([A-Z].*)$", r"probability of \1", name)


def number_text(value: float, digits: int) -> str:
    """A number with so many decimals, and zero without a sign.

    Examples
    --------
    >>> number_text(-0.0004, 2), number_text(-0.4, 2)
    ('0.00', '-0.40')
    """
    return f"{value:z.{digits}f}"


def p_text(value: float, digits: int = P_DIGITS) -> str:
    """A p value with so many decimals, or below what they can show; never zero.

    Examples
    --------
    >>> p_text(0.0312), p_text(0.00002)
    ('0.031', '< 0.001')
    """
    least = 10**-digits
    return f"< {least:.{digits}f}" if value < least else number_text(value, digits)


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    Examples
    --------
    >>> duration(7.26), duration(72.6), duration(3725)
    ('7.3 s', '1 min 13 s', '1 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def in_print(value):
    """A text with data sets as readers know them, and a space before a percent sign; anything else as it is.

    Examples
    --------
    >>> in_print("msid, 43%, with msld-v1"), in_print("msid/Measles/a.png")
    ('MSID, 43 %, with MSLD', 'msid/Measles/a.png')
    """
    return re.sub(r"(?<=\d)%(?!\w)", " %", _NAMES.sub(lambda name: TITLES[name[0]], value)) if isinstance(value, str) else value


def as_read(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """A table as it is read: columns, index and data sets in words, numbers rounded, p values never zero, nothing for missing."""
    shown = table.astype(object).where(table.notna(), "")
    for place, name in enumerate(map(column_words, table.columns)):
        column = table.iloc[:, place]
        text: Callable = partial(number_text, digits=digits)
        values = column.dropna()
        if pd.api.types.is_float_dtype(column.dtype) and (values % 1 == 0).all() and (values.abs() > 1).any():
            text = int  # counts: whole, and not only 0 and 1, which may be shares
        elif isinstance(name, str) and re.match(r"p($|[ ,(])", name):
            text = partial(p_text, digits=max(digits, P_DIGITS))
        words = shown.iloc[:, place].map(lambda value, text=text: text(value) if pd.api.types.is_float(value) else value)
        shown.isetitem(place, words)
    shown = shown.map(in_print).rename(columns=column_words).rename(index=in_print)
    return shown.rename_axis([column_words(name) for name in shown.index.names])
