"""The recorded study made from a run folder: which runs, tables and audits its notebooks used; and the README's table of it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book.chapters import read_chapters, what_was_used
from mpox.book.report import estimate
from mpox.book.run import read_run_folder
from mpox.models.config import ModelConfig
from mpox.runs.recorded import model_settings, write_record
from mpox.runs.store import RECORDED, RunStore, store_folder

README_MARKS = ("<!-- recorded results: begin -->", "<!-- recorded results: end -->")


def record(folder: str | os.PathLike, *, out: str | os.PathLike | None = None, say: Callable[[str], None] = print) -> Path:
    """Keep what the notebooks of a finished run used, as a recorded study.

    Parameters
    ----------
    folder : path
        A finished run folder of ``mpox run`` on real images.
    out : path, optional
        Where to; the project's ``results/`` by default. What was recorded there before is replaced, whole or not at all.
    say : callable
        Told what was written.

    Raises
    ------
    MpoxError
        If the run is not finished, was on the phantom, or was itself read from the recorded study.
    """
    chapters = read_chapters(folder)
    run = read_run_folder(folder)
    if any(chapter.provenance["phantom"] for chapter in chapters):
        raise MpoxError(f"{folder} is a run on the phantom; the recorded study is of real images: use `mpox run --profile cpu`.")
    if str(run.parameters.get("RUN_STORE", "")) == RECORDED:
        raise MpoxError(f"{folder} was read from the recorded study itself: record a run of the profile cpu or gpu.")
    used = what_was_used(chapters)
    about = {
        "profile": run.profile,
        "parameters": run.parameters,
        "started": run.started,
        "finished": run.finished,
        "notebooks": {name: entry.duration_s for name, entry in run.notebooks.items()},
        "versions": chapters[0].provenance["versions"],
    }
    target = Path(out) if out else project_root() / "results"
    store = RunStore(store_folder(run.parameters.get("RUN_STORE", "")))
    write_record(target, store, runs=used.runs, tables=used.tables, datasets=used.datasets, audits=used.audits, about=about)
    counts = f"{len(used.runs)} runs, {len(used.audits)} audits and {len(used.tables)} tables"
    say(f"Recorded {counts} of {', '.join(used.datasets)} in {target}.")
    return target


def update_readme(results: Path, readme: Path) -> None:
    """Put the table of the recorded results between the README's marks, which must be there."""
    text = readme.read_text(encoding="utf-8")
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise MpoxError(f"{readme} lacks the lines '{begin}' and '{end}', between which the results are written.")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    atomic_write(readme, f"{before}{begin}\n{readme_table(results)}\n{end}{after}")


def readme_table(results: Path) -> str:
    """The README's table from a folder of recorded results, in Markdown: the reference model in the regimes of chapter 3."""
    parameters = json.loads((results / "study.json").read_text())["parameters"]
    probe = ModelConfig(backbone="tf_efficientnet_lite1", image_size=parameters["IMAGE_SIZE"])
    trained = {"fine_tune": parameters["TRAINING"], "tail_tune": parameters.get("TAIL_TRAINING")}
    models = [probe] + [
        probe.with_(regime=regime, image_size=parameters["TRAINED_IMAGE_SIZE"], training=training)
        for regime, training in trained.items()
        if regime in parameters["REPEATS"]
    ]
    shown = pd.DataFrame([model_settings(model) for model in models])
    metrics = pd.read_csv(results / "metrics.csv").merge(shown, on=list(shown))
    lines = [
        "| Data set | Folds made by | Regime | Accuracy | Macro F1 | AUROC (Mpox) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (dataset, regime, protocol, size), part in metrics.groupby(["dataset", "regime", "protocol", "image_size"]):
        cells = [estimate(part, "accuracy", "all"), estimate(part, "f1", "macro"), estimate(part, "auroc", "Mpox", digits=3)]
        cells = [cell.replace("95 % CI ", "") for cell in cells]
        lines.append(f"| {dataset} | `{protocol}` | {regime.replace('_', ' ')}, {size} px | {' | '.join(cells)} |")
    return "\n".join(lines)
