"""One table of all methods: ours with intervals and costs, and what others published with how it was tested."""

import pandas as pd

from mpox.errors import MpoxError
from mpox.literature import study_name
from mpox.splits import PROTOCOLS

#: Column of the table to (metric, class) of `mpox.evaluate`; the class None is the positive one.
MEASURES = {"accuracy": ("accuracy", "all"), "macro F1": ("f1", "macro"), "AUROC": ("auroc", None)}
_COSTS = {"parameters": "parameters", "median_ms_1": "ms"}
_MODEL = ["backbone", "head", "image_size"]
#: What every row says before its numbers.
ABOUT = ["method", "kind", "data", "regime", "protocol", "leaks"]


def leaderboard(metrics: pd.DataFrame, costs: pd.DataFrame, literature: pd.DataFrame, *, positive: str = "Mpox") -> pd.DataFrame:
    """Our methods and published ones in one table, the best AUROC first.

    Parameters
    ----------
    metrics : DataFrame
        Results of `mpox.evaluate`, one below the other, each with ``method`` (its name in the table), ``dataset``, ``regime``,
        ``protocol``, ``backbone``, ``head`` and ``image_size``.
    costs : DataFrame
        From `mpox.costs.measure_costs`; a method whose model is not there has no costs.
    literature : DataFrame
        From `mpox.literature.literature`. Studies with none of these metrics are left out.
    positive : str

    Returns
    -------
    DataFrame
        ``method``, ``kind`` (``ours`` or ``literature``), ``data``, ``regime``, ``protocol``, ``leaks`` (``yes``, ``no`` or
        ``unknown``; ours by the protocol, ``unknown`` under one that is not in `mpox.splits.PROTOCOLS`), for each of `MEASURES`
        the estimate and its 95 % interval (``AUROC``, ``AUROC low``, ``AUROC high``), ``parameters``, ``ms`` (median for a
        picture) and ``note``. What is not known is missing. Sorted by AUROC, then accuracy, downward; rows without one last.

    Raises
    ------
    MpoxError
        If a method has two results on one data set under one protocol.
    """
    board = pd.concat([_ours(metrics, costs, positive), _published(literature)], ignore_index=True)
    columns = [f"{name}{part}" for name in MEASURES for part in ("", " low", " high")]
    board = board.reindex(columns=[*ABOUT, *columns, *_COSTS.values(), "note"])
    return board.sort_values(["AUROC", "accuracy"], ascending=False, kind="stable", ignore_index=True, na_position="last")


def as_text(board: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """The leaderboard for reading: the name and the figures first, an estimate with its interval in one column, costs rounded.

    Examples
    --------
    >>> from mpox.literature import literature
    >>> results = ["method", "dataset", "regime", "protocol", *_MODEL, "metric", "class", "estimate", "low", "high"]
    >>> none, costs = pd.DataFrame(columns=results), pd.DataFrame(columns=[*_MODEL, *_COSTS])
    >>> board = leaderboard(none, costs, literature())
    >>> as_text(board).loc[0, ["method", "leaks", "AUROC"]].tolist()
    ['Zhao et al. (2025)', 'unknown', '0.998']
    """
    about = board[ABOUT].astype(object).where(board[ABOUT].notna(), "")
    shown = about[["method"]]
    for name in sorted(MEASURES):
        parts = board[[name, f"{name} low", f"{name} high"]].astype(float).itertuples(index=False, name=None)
        shown[name] = [_with_interval(estimate, low, high, digits) for estimate, low, high in parts]
    shown = shown.join(about[["data", "protocol", "leaks", "regime", "kind"]])
    shown["parameters (thousands)"] = ["" if pd.isna(value) else f"{value / 1e3:.1f}" for value in board["parameters"]]
    shown["ms"] = ["" if pd.isna(value) else f"{value:.3g}" for value in board["ms"]]
    return shown.assign(note=board["note"].fillna(""))


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{interval}"


def _ours(metrics: pd.DataFrame, costs: pd.DataFrame, positive: str) -> pd.DataFrame:
    about = ["method", "dataset", "regime", "protocol", *_MODEL]
    table = metrics[about].drop_duplicates(ignore_index=True)
    if table.duplicated(["method", "dataset", "protocol"]).any():
        twice = table.loc[table.duplicated(["method", "dataset", "protocol"]), "method"].iloc[0]
        raise MpoxError(f"The method '{twice}' has two models on one data set under one protocol: give each its own name.")
    for name, (metric, label) in MEASURES.items():
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == (label or positive))]
        if part.duplicated(["method", "dataset", "protocol"]).any():
            twice = part.loc[part.duplicated(["method", "dataset", "protocol"]), "method"].iloc[0]
            raise MpoxError(f"The method '{twice}' was evaluated twice on one data set under one protocol: keep one of them.")
        numbers = {"estimate": name, "low": f"{name} low", "high": f"{name} high"}
        table = table.merge(part[[*about, *numbers]].rename(columns=numbers), on=about, how="left", validate="1:1")
    found = costs.drop_duplicates(_MODEL)[[*_MODEL, *_COSTS]].rename(columns=_COSTS)
    table = table.merge(found, on=_MODEL, how="left", validate="m:1").rename(columns={"dataset": "data"})
    return table.assign(kind="ours", leaks=[_leaks(protocol) for protocol in table["protocol"]])


def _leaks(protocol: str) -> str:
    if protocol not in PROTOCOLS:
        return "unknown"
    return "yes" if PROTOCOLS[protocol].leaks else "no"


def _published(literature: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, data, protocol, leaks), part in literature.groupby(
        ["study", "data", "protocol", "leaks"], dropna=False, sort=False
    ):
        values = part.set_index("metric")
        known = {name: values.loc[metric, "value"] for name, (metric, _) in MEASURES.items() if metric in values.index}
        if not known:
            continue
        metrics = [MEASURES[name][0] for name in known]
        notes = list(dict.fromkeys(values.loc[metrics, "note"].dropna()))
        notes += [
            f"{name} ± {values.loc[MEASURES[name][0], 'sd']:.3f}" for name in known if values.loc[MEASURES[name][0], "sd"] > 0
        ]
        about = {"method": study_name(study), "kind": "literature", "data": data, "protocol": protocol, "leaks": leaks}
        rows.append({**about, **known, "note": "; ".join(notes)})
    return pd.DataFrame(rows)
