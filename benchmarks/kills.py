"""Kills a training again and again, and holds what it ends with against an undisturbed one: see README.md in this folder."""

import mmap
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import click
import pandas as pd
from measuring import machine, out_file, report

from mpox._core import MpoxError
from mpox.models.config import ModelConfig, Training

#: What a process may be doing when it is killed.
PHASES = ("starting or predicting", "training", "saving a state", "writing a run")
WARM = ["mpox.runs.cross_validation", "mpox.models.training", "mpox.audit", "mpox.data.pixels", "timm"]


@dataclass(frozen=True)
class Study:
    """A small cross-validation, and where it reads and writes.

    Parameters
    ----------
    pictures, store, cache : str
        Folders.
    model : ModelConfig
    folds : int
    result : str
        Gets the table of predictions, a CSV file with floats to the last bit.
    marks : str
        One byte that says the phase; beside it, in ``.log``, a line for every epoch that was computed.
    """

    pictures: str
    store: str
    cache: str
    model: ModelConfig
    folds: int
    result: str
    marks: str


def tiny_model(epochs: int) -> ModelConfig:
    """A network of which the last stage is trained: an epoch takes a fraction of a second."""
    plan = Training(epochs=epochs, patience=epochs, batch_size=8, head_steps=5, frozen_stages=7)
    return ModelConfig(regime="fine_tune", backbone="tf_efficientnet_lite0", image_size=64, training=plan)


def server() -> multiprocessing.context.BaseContext:
    """Starts processes that have imported all that is slow to import: they are forked from one that did nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WARM)
    return context


def _marked(function, phase: int, marks: mmap.mmap):
    def inside(*arguments, **options):
        before, marks[0] = marks[0], phase
        try:
            return function(*arguments, **options)
        finally:
            marks[0] = before

    return inside


def work(study: Study) -> None:
    """Compute a study in this process, and leave marks of what is being done."""
    import torch

    from mpox.models import training
    from mpox.models.training import Trainer
    from mpox.runs import store
    from mpox.runs.cross_validation import cross_validate

    os.environ["MPOX_CACHE"] = study.cache
    torch.set_num_threads(1)
    with open(study.marks, "r+b") as stream:
        marks = mmap.mmap(stream.fileno(), 1)
    epoch = Trainer._epoch

    def counted(self, number):
        row = epoch(self, number)
        with open(f"{study.marks}.log", "a") as log:
            log.write(f"{self.folder.name} {number}\n")
        return row

    with (
        patch.object(Trainer, "_epoch", _marked(counted, 1, marks)),
        patch.object(training, "save", _marked(training.save, 2, marks)),
        patch.object(store, "_write_run", _marked(store._write_run, 3, marks)),
    ):
        runs = store.RunStore(study.store)
        found = cross_validate(runs, runs.dataset(study.pictures), "source", study.model, n_folds=study.folds)
    found.to_csv(study.result, index=False)


def prepare(pictures: str, store: str, cache: str) -> None:
    """Scan and audit the pictures, so that no process that is to be killed has to."""
    from mpox.data.pixels import load_pixels
    from mpox.runs.store import RunStore

    os.environ |= {"MPOX_CACHE": cache, "LOKY_MAX_CPU_COUNT": "1"}
    load_pixels(RunStore(store).dataset(pictures).manifest, 64)


def _finish(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise MpoxError(f"A process that nobody killed ended with exit code {process.exitcode}: see its output above.")


def kill_again_and_again(
    pictures: Path, base: Path, cache: Path, *, kills: int, folder: Path, epochs: int = 3, folds: int = 2, seed: int = 0
) -> dict:
    """Kill a study at random moments, start it again until it is done, and begin anew until all kills are dealt.

    Parameters
    ----------
    pictures, base, cache : Path
        See `prepare`.
    kills : int
    folder : Path
        For everything that is written.
    epochs, folds : int
        Of the study.
    seed : int
        Of the moments: each is uniform over the time that the undisturbed study takes, from the start of a process on.

    Returns
    -------
    dict
        ``kills``: one row a kill (``life``, ``seconds``, ``phase``, ``states``: states on the disk, ``temporaries``: half files
        there); ``lives``: one row a study that ended (``kills``, ``epochs``, ``identical``, ``left``: files that do not belong);
        ``expected_epochs`` and ``undisturbed_s`` of the study without a kill; ``seconds`` of all the others.
    """
    context, rng = server(), random.Random(seed)
    marks, model = folder / "marks", tiny_model(epochs)

    def study(name: str) -> Study:
        shutil.copytree(base, folder / name)
        result = str(folder / f"{name}.csv")
        return Study(str(pictures), str(folder / name), str(cache), model, folds, result, str(marks))

    def start(one: Study):
        marks.write_bytes(b"\0")
        process = context.Process(target=work, args=(one,))
        process.start()
        return process

    def epochs_so_far() -> int:
        log = Path(f"{marks}.log")
        return len(log.read_text().splitlines()) if log.exists() else 0

    quiet = study("quiet")
    begun = time.perf_counter()
    _finish(start(quiet))
    whole = time.perf_counter() - begun
    expected, reference = epochs_so_far(), Path(quiet.result).read_bytes()

    dealt, lives, seconds, known = [], [], 0.0, expected
    while len(dealt) < kills:
        one, before = study(f"life{len(lives)}"), len(dealt)
        while True:
            begun, moment = time.perf_counter(), rng.uniform(0, whole)
            process = start(one)
            if len(dealt) < kills:
                process.join(moment)
            if len(dealt) == kills or process.exitcode is not None:
                _finish(process)
                seconds += time.perf_counter() - begun
                break
            process.kill()
            process.join()
            seconds += time.perf_counter() - begun
            runs = Path(one.store, "runs")
            dealt.append(
                {
                    "life": len(lives),
                    "seconds": moment,
                    "phase": PHASES[marks.read_bytes()[0]],
                    "states": sorted(path.name for path in runs.glob(".*.partial/epoch*")),
                    "temporaries": len(list(runs.glob(".*.partial/.*.tmp"))),
                }
            )
        found = Path(one.store, "runs").rglob("*")
        own = {"config.json", "environment.json", "history.csv", "predictions.csv", "model.safetensors"}
        lives.append(
            {
                "kills": len(dealt) - before,
                "epochs": epochs_so_far() - known,
                "identical": Path(one.result).read_bytes() == reference,
                "left": sorted(p.name for p in found if p.is_file() and p.suffix != ".lock" and p.name not in own),
            }
        )
        known = epochs_so_far()
        shutil.rmtree(one.store)
    return {
        "kills": pd.DataFrame(dealt),
        "lives": pd.DataFrame(lives),
        "expected_epochs": expected,
        "undisturbed_s": whole,
        "seconds": seconds,
    }


def summary(found: dict) -> pd.DataFrame:
    """One row a phase, and one of all; what was computed twice and the time lost can be told of all only."""
    kills, lives = found["kills"], found["lives"]
    rows = [{"killed while": phase, "kills": int((kills["phase"] == phase).sum())} for phase in PHASES]
    lost = found["seconds"] - len(lives) * found["undisturbed_s"]
    rows.append(
        {
            "killed while": "all",
            "kills": len(kills),
            "with a half file": int((kills["temporaries"] > 0).sum()),
            "studies": len(lives),
            "restarts": int(lives["kills"].sum()),
            "epochs": int(lives["epochs"].sum()),
            "computed twice": int(lives["epochs"].sum()) - len(lives) * found["expected_epochs"],
            "seconds lost": round(lost, 1),
            "bit-identical": "yes" if lives["identical"].all() else "no",
        }
    )
    counts = ["with a half file", "studies", "restarts", "epochs", "computed twice"]
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


@click.command()
@click.option("--kills", default=100, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(1))
@click.option("--folds", default=2, show_default=True, type=click.IntRange(2))
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
def main(kills: int, epochs: int, folds: int, seed: int, out: Path | None) -> None:
    """Kill a small study on the phantom at random moments, restart it, and compare what it ends with."""
    from mpox.data.phantom import PhantomSpec, ensure_phantom

    pictures = ensure_phantom(PhantomSpec(n_patients=48, copies=0, label_conflicts=0, size=64))
    with tempfile.TemporaryDirectory(prefix="mpox-kills-") as name:
        folder = Path(name)
        known = pictures, folder / "base", folder / "cache"
        process = server().Process(target=prepare, args=tuple(map(str, known)))
        process.start()
        try:
            _finish(process)
            found = kill_again_and_again(*known, kills=kills, folder=folder, epochs=epochs, folds=folds, seed=seed)
        except MpoxError as error:
            raise click.ClickException(str(error)) from error
    notes = [
        "`studies`: how many times the study was begun and ended; `restarts` after a kill; `epochs` computed to the end, all "
        "studies together, of which so many `computed twice`: what a kill between an epoch and its state costs",
        f"`seconds lost`: beyond the {found['undisturbed_s']:.1f} s of each study undisturbed, starts of processes among them",
    ]
    table = summary(found)
    report(f"{kills} kills", table, notes, about=machine(), out=out)
    sys.exit(0 if found["lives"]["identical"].all() else 1)


if __name__ == "__main__":
    main()
