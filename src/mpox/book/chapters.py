"""Executed notebooks read back: what a chapter found; and the recorded study, made of what they took from the run store."""

import ast
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd

from mpox._core import MpoxError, atomic_write, project_root
from mpox.book import plots
from mpox.book.report import estimate, with_interval
from mpox.book.run import declared_parameters, read_run_folder
from mpox.models.config import ModelConfig
from mpox.protocols.splits import make_splits
from mpox.runs.croissant import write_description
from mpox.runs.cross_validation import predict_nested
from mpox.runs.recorded import RecordedStore, write_record
from mpox.runs.store import RECORDED, RunStore, store_folder
from mpox.stats.decisions import Aim, carry_thresholds, operating_replicates
from mpox.stats.metrics import evaluate, without_class
from mpox.stats.resample import with_kind
from mpox.studies import external
from mpox.studies.page_model import PageModel, fit_page_model, write_page_models
from mpox.studies.verdict import Measured, claim_intervals, in_words, measure

#: The test on another collection that the cover and the README have: trained on, tested on.
OUTSIDE = ("msid", "msld-v1")
README_MARKS = ("<!-- recorded results: begin -->", "<!-- recorded results: end -->")


@dataclass(frozen=True)
class Chapter:
    """An executed notebook: what `mpox.book.report.provenance` glued, and the other glued texts by key."""

    name: str
    title: str
    path: Path
    provenance: dict[str, Any] = field(repr=False)
    findings: dict[str, str] = field(repr=False)
    duration_s: float


def read_chapters(folder: str | os.PathLike) -> list[Chapter]:
    """Read the notebooks of a finished run folder."""
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        made_by = f"--profile {folder.name}" if folder.parent.name == "_runs" else f"--profile NAME --out {folder}"
        raise MpoxError(
            f"There is no run in {folder}; make it with `mpox run {made_by}`, "
            "or name the run folders to build from: `mpox book FOLDER ...`."
        )
    run = read_run_folder(folder)
    again = f"mpox run --profile {run.profile_file} --out {folder}"
    unfinished = [f"{name} is {entry.status}" for name, entry in run.notebooks.items() if entry.status != "done"]
    if unfinished or run.finished is None:
        what = ", ".join(unfinished) or "it was stopped"
        raise MpoxError(f"The run in {folder} is not finished: {what}; go on with `{again} --resume`.")
    chapters = []
    for name, entry in run.notebooks.items():
        path = folder / f"{name}.ipynb"
        if not path.is_file():
            raise MpoxError(f"The run in {folder} has lost {path.name}; make it again with `{again}`.")
        notebook = nbformat.read(path, as_version=4)
        findings = glued_texts(notebook)
        provenance = json.loads(findings.pop("provenance", "{}"))
        if not isinstance(provenance.get("phantom"), bool):
            raise MpoxError(f"{path} does not say where it comes from: end the notebook with `mpox.book.report.provenance(...)`.")
        title = title_cell(notebook, path).source.partition("\n")[0].removeprefix("# ")
        chapters.append(Chapter(name, title, path, provenance, findings, entry.duration_s or 0.0))
    return chapters


def glued_texts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The texts that an executed notebook has glued, by key (a key glued twice keeps its last text)."""
    texts = {}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        key = output.get("metadata", {}).get("scrapbook", {}).get("name")
        mime = next((mime for mime in output.get("data", {}) if mime.endswith("text/plain")), None)
        if key and mime:
            text = "".join(output.data[mime])  # glue stores repr(value)
            texts[key] = ast.literal_eval(text) if text[:1] in "'\"" else text
    return texts


def title_cell(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """The first Markdown cell, which begins with a level-one heading."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.match(r"# +\S", cell.source):
            return cell
    raise MpoxError(f"{path} has no title: begin the notebook with a Markdown cell `# Title`.")


# ------------------------------------------------------------------------------------------- the recorded study
def record(folder: str | os.PathLike, *, out: str | os.PathLike | None = None, say: Callable[[str], None] = print) -> Path:
    """Keep what the notebooks of a finished run used, as a recorded study in `out`, ``results/`` of the project by default.

    What was recorded there before is replaced, whole or not at all. `MpoxError` if the run is not finished, was on the phantom,
    or was itself read from the recorded study.
    """
    chapters = read_chapters(folder)
    run = read_run_folder(folder)
    if any(chapter.provenance["phantom"] for chapter in chapters):
        raise MpoxError(f"{folder} is a run on the phantom; the recorded study is of real images: use `mpox run --profile cpu`.")
    if str(run.parameters.get("RUN_STORE", "")) == RECORDED:
        raise MpoxError(f"{folder} was read from the recorded study itself: record a run of the profile cpu or gpu.")
    for chapter in chapters:
        if lacks := [key for key in ("run_ids", "table_ids", "datasets", "audits") if key not in chapter.provenance]:
            raise MpoxError(f"{chapter.path} does not say which {', '.join(lacks)} it used: run the notebook again.")
    runs, tables, datasets = (
        sorted({name for chapter in chapters for name in chapter.provenance[key]}) for key in ("run_ids", "table_ids", "datasets")
    )
    audits = {name: key for chapter in chapters for name, key in chapter.provenance["audits"].items()}
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
    models = _page_models(store, datasets, run.parameters) if set(OUTSIDE) <= set(datasets) else []
    write_record(target, store, runs=runs, tables=tables, datasets=datasets, audits=audits, about=about)
    if models:
        write_page_models(target, models)
        write_description(target)
    say(f"Recorded {len(runs)} runs, {len(audits)} audits and {len(tables)} tables of {', '.join(datasets)} in {target}.")
    return target


def _page_models(store: RunStore, datasets: list[str], asked: dict[str, Any]) -> list[PageModel]:
    """The models that the page `book/try_it` runs, of the sets of `OUTSIDE`; needs their images."""
    model = ModelConfig(backbone="tf_efficientnet_lite1", image_size=asked["IMAGE_SIZE"])
    loaded = {data.name: data for data in store.datasets(datasets)}
    pairs = (tuple(loaded[name] for name in names) for names in (OUTSIDE[::-1], OUTSIDE))
    return [fit_page_model(store, own, other, model, n_folds=asked["N_FOLDS"]) for own, other in pairs]


def update_readme(results: Path, readme: Path) -> None:
    """Put the table of the recorded results between the README's marks, which must be there."""
    text = readme.read_text(encoding="utf-8")
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise MpoxError(f"{readme} lacks the lines '{begin}' and '{end}', between which the results are written.")
    before, after = text.split(begin)[0], text.split(end)[1]
    atomic_write(readme, f"{before}{begin}\n{readme_table(results)}\n{end}{after}")


def readme_table(results: Path) -> str:
    """The README's table from a folder of recorded results, in Markdown: the reference model in each honest test."""
    store, judged = RecordedStore(results), judged_record(results)
    aim = Aim("sensitivity", declared_parameters("09_use")["SENSITIVITIES"][0])
    shown = {"Accuracy": ("accuracy", "all", 2), "AUROC (Mpox)": ("auroc", "Mpox", 3)}
    head = ["Trained and tested on", *shown, f"Sensitivity (aim {aim.level:g})*", "Specificity*"]
    lines = [head, ["---"] * len(head)]
    probe, folds = _reference(store), store.study["parameters"]["N_FOLDS"]
    for name in store.study["parameters"]["DATASETS"]:
        data, apart = store.dataset(name), judged.predictions[name, "source"]
        inside = predict_nested(store, data, make_splits(data.manifest, "source", n_folds=folds), probe)
        carried = carry_thresholds(apart.query("repeat == 0"), inside, aim)
        found = judged.metrics.query("dataset == @name and protocol == 'source'")
        rows = [(f"{plots.dataset_title(name)}, patients and copies kept apart", found, carried)]
        if "Normal" in data.classes:
            rashes = evaluate(without_class(apart, "Normal"))
            title = f"{plots.dataset_title(name)}, the same without healthy skin"
            rows.append((title, rashes, carried[carried["label"] != "Normal"]))
        for title, metrics, at in rows:
            reached = operating_replicates(at)
            values = [estimate(metrics, *key, digits=digits) for *key, digits in shown.values()]
            values += [with_interval(*with_kind(reached[key])) for key in ("sensitivity", "specificity")]
            lines.append([title, *values])
    train, test = OUTSIDE
    outside = pd.DataFrame() if judged.external is None else judged.external
    outside = outside.query("train == @train and test == @test and subset == 'without shared'") if len(outside) else outside
    if len(outside):
        both, near, far = external.external_pair(store, train, test, study=store.study["parameters"]["DATASETS"])
        options = {"n_folds": folds, "n_repeats": store.study["parameters"]["EXTERNAL_REPEATS"]}
        own = external.with_remedy(store, both, near, far, probe, "target alone", **options)
        ceiling = external.auroc_replicates(external.unshared_part(own)).estimate
        title = f"Trained on {plots.dataset_title(train)}, tested on what {plots.dataset_title(test)} does not share with it"
        values = [estimate(outside, *key, digits=digits) for *key, digits in shown.values()]
        values[-1] += f"; a model of {plots.dataset_title(test)}'s own has {float(ceiling):.3f} on the same images"
        lines.append([title, *values, "", ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reference(store: RecordedStore) -> ModelConfig:
    return ModelConfig(backbone="tf_efficientnet_lite1", image_size=store.study["parameters"]["IMAGE_SIZE"])


def judged_record(results: Path) -> Measured:
    """What chapter 10 judges, from a folder of recorded results."""
    store = RecordedStore(results)
    asked = store.study["parameters"]
    options = {"n_folds": asked["N_FOLDS"], "n_repeats": asked["REPEATS"]["linear_probe"], "views": asked["AUGMENTED_VIEWS"]}
    options |= {"draws": asked["DRAWS"], "pairs": asked["EXTERNAL"]}
    return measure(store, store.datasets(asked["DATASETS"]), _reference(store), asked["PROTOCOLS"], **options)


def draw_answer(results: Path, target: Path) -> None:
    """The cover's figure from a folder of recorded results, as an SVG for the README; the same record gives the same file."""
    judged = judged_record(results)
    held = claim_intervals(judged.metrics, judged.external).dropna(subset=["estimate"])
    plots.use_style()
    with plt.rc_context({"svg.hashsalt": "mpox", "svg.fonttype": "none"}):
        figure = plots.answer(held.assign(protocol=in_words(held["protocol"])))
        figure.savefig(target, metadata={"Date": None})
        plt.close(figure)
