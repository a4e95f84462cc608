"""The recorded study: what a run on real images leaves behind, without the images.

``results/`` holds manifests, splits, configurations, predictions, histories, derived tables, metrics with intervals and
environments; `mpox.runs.recorded.RecordedStore` reads it. The README's table of results is made from it too.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write, explaining, hash_of, move_folder, project_root
from mpox.book.parts import read_chapters, what_was_used
from mpox.book.report import estimate
from mpox.book.run import read_run_folder
from mpox.models.config import ModelConfig, Training
from mpox.runs.recorded import BITS, RecordedStore, pack_predictions
from mpox.runs.store import RECORDED, RunResult, RunStore, read_run, store_folder
from mpox.stats.metrics import evaluate

#: The protocols of which every image of a data set has out-of-fold predictions; the others have their tables in the chapters.
CROSS_VALIDATED = ("random_image", "patient", "source")
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
    store = RunStore(store_folder(run.parameters.get("RUN_STORE", "")))
    used = what_was_used(chapters)
    results = [read_run(store.root / "runs" / run_id) for run_id in used.runs]

    target = Path(out) if out else project_root() / "results"
    with explaining(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _write_tables(fresh, store, results, used.tables, used.datasets, used.audits)
        about = {
            "profile": run.profile,
            "parameters": run.parameters,
            "audits": used.audits,
            "started": run.started,
            "finished": run.finished,
            "notebooks": {name: entry.duration_s for name, entry in run.notebooks.items()},
            "compute_s": round(sum(result.environment["seconds"] for result in results), 1),
            "device": ", ".join(sorted({result.environment["device"] for result in results})),
            "versions": chapters[0].provenance["versions"],
        }
        atomic_write(fresh / "study.json", json.dumps(about, indent=1) + "\n")
        if (target / "README.md").is_file():
            shutil.copy(target / "README.md", fresh / "README.md")
        metrics = recorded_metrics(RecordedStore(fresh))
        atomic_write(fresh / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n", float_format="%.6f"))
        _replace_folder(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    counts = f"{len(used.runs)} runs, {len(used.audits)} audits and {len(used.tables)} tables"
    say(f"Recorded {counts} of {', '.join(used.datasets)} in {target}.")
    return target


def _replace_folder(fresh: Path, target: Path) -> None:
    fresh.chmod(0o755)
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():  # a recording that was killed between the two renames
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    move_folder(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def _write_tables(
    folder: Path,
    store: RunStore,
    results: list[RunResult],
    table_ids: list[str],
    datasets: list[str],
    audits: dict[str, str],
) -> None:
    environments, entries = {}, []
    for result in results:
        seconds = result.environment["seconds"]
        shared = {key: value for key, value in result.environment.items() if key != "seconds"}
        environments[hash_of(shared)] = shared
        config = asdict(result.config)
        entries.append({"id": result.config.id, "environment": hash_of(shared), "seconds": seconds, "config": config})
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    atomic_write(folder / "runs.json", f"[\n{lines}\n]\n")
    atomic_write(folder / "environments.json", json.dumps(environments, indent=1) + "\n")
    for name in ("predictions", "history"):
        parts = [getattr(result, name).assign(run_id=result.config.id) for result in results]
        table = pd.concat(parts, ignore_index=True)
        _write_parquet(folder / f"{name}.parquet", pack_predictions(table) if name == "predictions" else table)
    splits = sorted({result.config.split for result in results})
    parts = [pd.read_csv(store.root / "splits" / f"{split}.csv").assign(split=split) for split in splits]
    _write_parquet(folder / "splits.parquet", pd.concat(parts, ignore_index=True))
    for kind, names in (("manifests", datasets), ("tables", table_ids)):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(store.root / kind / f"{name}.csv", folder / kind / f"{name}.csv")
    for name, key in audits.items():
        shutil.copytree(store.root / "audits" / key, folder / "audits" / name)


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Exactly, and small: numbers are split into their bytes before they are packed."""
    floats = [name for name in table if name == BITS or pd.api.types.is_float_dtype(table[name])]
    others = [name for name in table.columns if name not in floats]
    with explaining(path.parent):
        table.to_parquet(
            path, index=False, compression="zstd", compression_level=19, use_dictionary=others, use_byte_stream_split=floats
        )


def recorded_metrics(store: RecordedStore) -> pd.DataFrame:
    """Metrics with intervals of every cross-validation in the recorded study.

    Returns
    -------
    DataFrame
        ``dataset``, ``protocol``, the model's settings (``training``: JSON of what is not the default), ``runs`` (how many), and
        the columns of `mpox.evaluate`.
    """
    rows = []
    experiments: dict[str, list] = {}
    for result in store.results():
        config = result.config
        if config.protocol not in CROSS_VALIDATED:
            continue
        key = hash_of({"dataset": config.dataset, "protocol": config.protocol, "model": asdict(config.model)})
        experiments.setdefault(key, []).append(result)
    for results in experiments.values():
        config = results[0].config
        data = store.dataset(config.dataset)
        predictions = pd.concat(
            [result.predictions.assign(repeat=result.config.repeat) for result in results], ignore_index=True
        ).assign(group_id=lambda table, groups=data.groups: table["image_id"].map(groups))
        settings = {"dataset": config.dataset, "protocol": config.protocol, **_settings(config.model), "runs": len(results)}
        rows.append(evaluate(predictions).assign(**settings)[[*settings, "metric", "class", "estimate", "low", "high"]])
    table = pd.concat(rows, ignore_index=True)
    return table.sort_values(["dataset", "protocol", *_SETTINGS], kind="stable", ignore_index=True)


_SETTINGS = ("regime", "backbone", "head", "weights", "image_size", "mirror", "seed", "training")


def _settings(model: ModelConfig) -> dict:
    """What tells one model of ``metrics.csv`` from another; of its training what is not the default."""
    values = {name: getattr(model, name) for name in _SETTINGS}
    usual = asdict(Training())
    changed = {name: value for name, value in asdict(model.training or Training()).items() if value != usual[name]}
    return {**values, "training": json.dumps(changed)}


def readme_table(metrics: pd.DataFrame, models: list[ModelConfig]) -> str:
    """The README's table of results, as Markdown.

    Parameters
    ----------
    metrics : DataFrame
        From `recorded_metrics`, or ``results/metrics.csv``.
    models : list of ModelConfig
        Those that are shown, one a regime.
    """
    wanted = pd.DataFrame([_settings(model) for model in models])
    sizes = {model.regime: model.image_size for model in models}
    metrics = metrics.merge(wanted, on=list(_SETTINGS))
    lines = [
        "| Data set | Folds made by | Regime | Accuracy | Macro F1 | AUROC (Mpox) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (dataset, regime, protocol), part in metrics.groupby(["dataset", "regime", "protocol"], sort=True):
        cells = [estimate(part, "accuracy", "all"), estimate(part, "f1", "macro"), estimate(part, "auroc", "Mpox", digits=3)]
        cells = [cell.replace("95 % CI ", "") for cell in cells]
        lines.append(f"| {dataset} | `{protocol}` | {regime.replace('_', ' ')}, {sizes[regime]} px | {' | '.join(cells)} |")
    return "\n".join(lines)


def update_readme(results: Path, readme: Path) -> None:
    """Put the table of the recorded results between the README's marks.

    Raises
    ------
    MpoxError
        If the marks are missing.
    """
    text = readme.read_text(encoding="utf-8")
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise MpoxError(f"{readme} lacks the lines '{begin}' and '{end}', between which the results are written.")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    atomic_write(readme, f"{before}{begin}\n{recorded_readme_table(results)}\n{end}{after}")


def recorded_readme_table(results: Path) -> str:
    """The README's table from a folder of recorded results: the reference model in the regimes of its chapter 3."""
    parameters = json.loads((results / "study.json").read_text())["parameters"]
    probe = ModelConfig(backbone="tf_efficientnet_lite1", image_size=parameters["IMAGE_SIZE"])
    trained = {"fine_tune": parameters["TRAINING"], "tail_tune": parameters.get("TAIL_TRAINING")}
    models = [
        probe.with_(regime=regime, image_size=parameters["TRAINED_IMAGE_SIZE"], training=training)
        for regime, training in trained.items()
        if regime in parameters["REPEATS"]
    ]
    return readme_table(pd.read_csv(results / "metrics.csv"), [probe, *models])
