"""From the beginning of a run's id to the run, and from a run to the data set and the split that it learnt from."""

import difflib
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, data_roots
from mpox.data.dataset import Dataset
from mpox.data.registry import REGISTRY, get_spec
from mpox.models.config import RunConfig
from mpox.protocols.copies import augmented
from mpox.protocols.pairs import combine
from mpox.protocols.splits import PROTOCOLS
from mpox.runs.store import PARTIAL, RUN, RunResult, RunStore, read_run, read_table

SHORTEST = 4


def find_run(store: RunStore, prefix: str) -> RunResult:
    """The run whose id begins with `prefix`.

    Parameters
    ----------
    store : RunStore
    prefix : str
        At least `SHORTEST` hex digits.

    Raises
    ------
    MpoxError
        If there is no such run (the sentence lists similar ids), more than one, or it is unfinished or damaged.
    """
    folder = store.root / "runs"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    whole = [name for name in names if RUN.fullmatch(name)]
    found = [name for name in whole if name.startswith(prefix.lower())]
    if len(prefix) < SHORTEST:
        raise MpoxError(f"'{prefix}' is too short for a run's id: give at least {SHORTEST} of its digits (see `mpox runs list`).")
    if len(found) > 1:
        some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise MpoxError(f"The ids of {len(found)} runs begin with '{prefix}' ({some}): give more of it.")
    if not found:
        if any(match[1].startswith(prefix.lower()) for match in map(PARTIAL.fullmatch, names) if match):
            raise MpoxError(f"The run '{prefix}' is not finished: let it be computed to its end, then ask again.")
        by_beginning = {name[: len(prefix)]: name for name in whole}
        near = [by_beginning[part] for part in difflib.get_close_matches(prefix.lower(), by_beginning, n=3)]
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise MpoxError(f"No run's id begins with '{prefix}' in {store.root}: {meant}See `mpox runs list`, or name a --store.")
    return read_run(folder / found[0])


def training_data(store: RunStore, config: RunConfig, data_dir: str | None = None) -> tuple[Dataset, pd.DataFrame]:
    """The data set that a run was made of, and its rows of the split table.

    Parameters
    ----------
    store : RunStore
    config : RunConfig
    data_dir : path, optional
        Where data sets lie. For one that is not registered also its own folder.

    Returns
    -------
    data : Dataset
        Of several data sets, or of augmented copies, where the run was made of those.
    rows : DataFrame
        ``repeat``, ``fold``, ``image_id``, ``group_id``, ``role``, ``inner_fold``.

    Raises
    ------
    MpoxError
        If the data set or the split is not here, or the pictures are not those of the run.
    """
    path = store.root / "splits" / f"{config.split}.csv"
    if not path.is_file():
        raise MpoxError(f"The split of the run {config.id} is not in {path.parent}: compute the run again.")
    names = [_place(name, config.id, data_dir) for name in config.dataset.split("+")]
    loaded = [store.dataset(name, data_dir=data_dir) for name in names]
    data = loaded[0] if len(loaded) == 1 else combine(loaded, store.audit(names, data_dir).groups)
    if config.protocol in PROTOCOLS and PROTOCOLS[config.protocol].augmented:
        data = augmented(data)
    if data.hash != config.data:
        raise MpoxError(
            f"The data set '{config.dataset}' that is here (hash {data.hash}) is not the one of the run {config.id} "
            f"({config.data}): name the folder of the other one with --data-dir."
        )
    return data, read_table(path, dtype={"image_id": "str", "group_id": "str"})


def _place(name: str, run_id: str, data_dir: str | None) -> str:
    """A registered data set's name, or the folder of another one."""
    for root in data_roots(data_dir):
        for folder in (root / name, root):
            planted = name == "phantom" and folder.is_dir() and get_spec(folder).is_phantom
            if planted or (name not in REGISTRY and folder.name == name and folder.is_dir()):
                return str(folder)
    if name not in REGISTRY and not Path(name).is_dir():
        raise MpoxError(f"The run {run_id} learnt from the folder '{name}', which is not here: name it with --data-dir.")
    return name
