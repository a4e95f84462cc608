"""Words for the names of columns and texts for numbers, as the tables of the book show them."""

import re

import pandas as pd

#: Column of the package's tables to how a reader is told of it. What is not here is shown as it is.
COLUMN_WORDS = {
    "dataset": "data set",
    "image_id": "image",
    "image_id_a": "first image",
    "image_id_b": "second image",
    "image_size": "input (px)",
    "patient_id": "patient",
    "group_id": "group",
    "n_images": "images",
    "n_groups": "groups",
    "n_folds": "folds",
    "n_repeats": "repeats",
    "n_train": "training images",
    "in_conflict": "in a conflict",
    "error_rate": "error rate",
    "f1": "F1",
    "f1_of_means": "F1 of the means",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "ece": "calibration error (ECE)",
    "ece if calibrated": "calibration error if calibrated",
    "brier": "Brier score",
    "iou": "overlap (IoU)",
    "ssim": "similarity (SSIM)",
    "spearman": "rank correlation",
    "mahalanobis": "Mahalanobis distance",
    "sd": "standard deviation",
    "standard_error": "standard error",
    "share_significant": "share called different",
    "mean_width": "mean width",
    "pc1": "first component",
    "pc2": "second component",
    "p_holm": "p (Holm)",
    "p_naive": "p (uncorrected t-test)",
    "p_mcnemar": "p (McNemar)",
    "p_corrected": "p (corrected)",
    "p_equivalence": "p (equivalence)",
    "p_true": "probability of its class",
    "p_label": "probability of its label",
    "p_worse": "probability: worse",
    "p_equivalent": "probability: equivalent",
    "p_better": "probability: better",
    "multiply_adds": "multiply-adds",
    "ms": "ms a picture",
    "median_ms_1": "ms a picture (median)",
    "p95_ms_1": "ms a picture (95th percentile)",
    "median_ms_16": "ms a picture in a batch of 16 (median)",
    "p95_ms_16": "ms a picture in a batch of 16 (95th percentile)",
    "file_mib": "file (MiB)",
    "peak_mib": "memory (MiB)",
    "size_mb": "file (MB)",
    "latency_ms_1": "ms a picture (median)",
    "latency_p95_ms_1": "ms a picture (95th percentile)",
    "latency_ms_16": "ms a picture in a batch of 16 (median)",
    "max_abs_difference": "largest difference of a probability",
}
_END = re.compile(r"_(low|high|loss)$")
_CLASS = re.compile(r"^p_([A-Z].*)$")
_P_VALUE = re.compile(r"^p($|[ ,(])")
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
    if " (" in name:
        head, bracket, rest = name.partition(" (")
        return column_words(head) + bracket + rest
    return _CLASS.sub(r"probability of \1", name)


def number_text(value: float, digits: int) -> str:
    """A number with so many decimals, and zero without a sign.

    Examples
    --------
    >>> number_text(-0.0004, 2), number_text(-0.4, 2)
    ('0.00', '-0.40')
    """
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def p_text(value: float, digits: int = P_DIGITS) -> str:
    """A p value with so many decimals, or below what they can show; never zero.

    Examples
    --------
    >>> p_text(0.0312), p_text(0.00002)
    ('0.031', '< 0.001')
    """
    least = 10**-digits
    return f"< {least:.{digits}f}" if value < least else number_text(value, digits)


def p_words(value: float) -> str:
    """A p value in a sentence.

    Examples
    --------
    >>> p_words(0.0312), p_words(0.00002)
    ('p = 0.031', 'p < 0.001')
    """
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def as_read(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """A table as it is read: columns and index in words, numbers rounded, p values never zero, nothing for what is missing."""
    shown = table.astype(object).where(table.notna(), "")
    for place in range(table.shape[1]):
        if _counts(column := table.iloc[:, place]):
            whole = [int(value) if pd.notna(value) else "" for value in column]
            shown.isetitem(place, pd.Series(whole, shown.index, dtype=object))
    shown = shown.rename(columns=column_words)
    shown.index = shown.index.set_names([column_words(name) for name in shown.index.names])
    columns = []
    for place, name in enumerate(shown.columns):
        is_p = isinstance(name, str) and _P_VALUE.match(name)
        columns.append(shown.iloc[:, place].map(lambda value, is_p=is_p: _cell(value, digits, is_p)))
    return pd.concat(columns, axis=1).set_axis(shown.columns, axis=1) if columns else shown


def _counts(column: pd.Series) -> bool:
    """Whether a column of floats holds counts: whole numbers, and not only 0 and 1, which may be shares."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return False
    values = column.dropna()
    return len(values) > 0 and bool((values % 1 == 0).all()) and bool((values.abs() > 1).any())


def _cell(value, digits: int, is_p):
    if not pd.api.types.is_float(value):
        return value
    return p_text(float(value), max(digits, P_DIGITS)) if is_p else number_text(float(value), digits)
