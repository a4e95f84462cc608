"""How accurate and how fast the data audit is: see README.md beside this file."""

import json
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import click
import pandas as pd
from judging import judge
from measuring import MEMORY, Commands, exponent, machine, out_file, report, run_phase

from mpox._core import MpoxError, cache_dir
from mpox.audit import Audit, brute_force, features, pairs, run_audit
from mpox.audit.result import COLUMNS as OVERRIDES
from mpox.audit.retrieval import codebook
from mpox.data.manifest import build_manifest
from mpox.data.phantom import COPY_KINDS, PhantomSpec, ensure_phantom, person, read_truths

_SCRIPT = Path(__file__).resolve()
_NOBODY = pd.DataFrame(columns=OVERRIDES, dtype="str")  # the program alone is measured, not people's decisions
_BOOKS = (256, 512, 1024)
_TARGETS = {"recall": 0.98, "precision": 0.99}


_jobs = click.option("--jobs", type=click.IntRange(min=1), help="Processes; all cores if not given.")
_out = click.option("--out", type=click.Path(path_type=Path), callback=out_file, help="Also write to this .csv or .json.")
_data = click.option("--data-dir", type=click.Path(), help="Where the data sets lie (or set MPOX_DATA).")


@click.group(cls=Commands)
def main() -> None:
    """Measure the data audit."""


@main.command()
@click.option("--per-kind", type=click.IntRange(min=1), default=50, show_default=True, help="Copies of each kind.")
@click.option("--kinds", help=f"Comma-separated, out of {', '.join(COPY_KINDS)}; all if not given.")
@click.option("--size", type=click.IntRange(min=64), default=224, show_default=True, help="Width of a picture in pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the phantom.")
@_jobs
@_out
def accuracy(per_kind: int, kinds: str | None, size: int, seed: int, jobs: int | None, out: Path | None) -> None:
    """Recall and precision on a phantom, by kind of copy."""
    about = machine()
    names = tuple(kinds.split(",")) if kinds else COPY_KINDS
    copies = per_kind * len(names)
    spec = PhantomSpec(seed=seed, n_patients=2 * copies, size=size, copies=copies, copy_kinds=names, label_conflicts=0)
    images = ensure_phantom(spec, jobs=jobs)
    audit = run_audit([build_manifest(images)], overrides=_NOBODY, jobs=jobs)
    table, lists = judge(audit, read_truths(images))
    low = [
        f"{row.kind} ({name} {getattr(row, name):.3f})"
        for row in table.itertuples()
        for name, target in _TARGETS.items()
        if getattr(row, name) < target
    ]
    notes = [
        f"a phantom of {len(audit.images)} pictures, {copies} of them copies, seed {seed}, {size} px; not patients",
        "recall: an accepted pair joins the copy and its original; low and high are Wilson's 95 % interval",
        "in doubt: copies that were not accepted, but are in the list of weak pairs",
        "precision: of the accepted pairs with a copy of that kind in them, those that show one photograph",
        "error: mean distance at the original's four corners from the planted transform, in pixels of the copy",
        f"largest group: {audit.images['group_id'].value_counts().iloc[0]} pictures (patients of several pictures included)",
        "below the aim (recall 0.98, precision 0.99): " + (", ".join(low) or "none"),
    ]
    report("Accuracy of the audit by kind of copy", table, notes, about=about, out=out, more=lists, echo=click.echo)


@main.command()
@click.argument("datasets", nargs=-1)
@click.option("--sample", type=click.IntRange(min=1), help="Time only so many random pairs by brute force, and scale up.")
@_data
@_jobs
@_out
def speed(datasets: tuple[str, ...], sample: int | None, data_dir: str | None, jobs: int | None, out: Path | None) -> None:
    """The audit of DATASETS (msld-v1 and msid if none is named), cold and warm, against all pairs."""
    about = machine()
    datasets = datasets or ("msld-v1", "msid")
    common = [*datasets, *(["--data-dir", data_dir] if data_dir else []), *(["--jobs", str(jobs)] if jobs else [])]
    with tempfile.TemporaryDirectory(prefix="mpox-benchmark-cache-") as cache:
        cold, warm = (run_phase(_SCRIPT, ["phase-audit", *common], cache=Path(cache)) for _ in range(2))
        sampled = ["--sample", str(sample)] if sample else []
        brute = run_phase(_SCRIPT, ["phase-brute", *common, *sampled], cache=Path(cache))
    scale = brute["all_pairs"] / brute["compared"]
    seconds = brute["seconds"] * scale
    rows = [
        {"what": "audit, cold cache", "seconds": cold["seconds"], "comparisons": cold["compared"], "peak MiB": cold["peak_mib"]},
        {
            "what": "audit, warm cache",
            "seconds": warm["seconds"],
            "comparisons": warm["compared"] - cold["compared"],
            "peak MiB": warm["peak_mib"],
        },
        {
            "what": "all pairs" + (", scaled up" if scale > 1 else ""),
            "seconds": seconds,
            "comparisons": 2 * brute["all_pairs"],
            "peak MiB": brute["peak_mib"],
        },
    ]
    table = pd.DataFrame(rows).assign(ratio=[seconds / cold["seconds"], seconds / warm["seconds"], 1.0])
    accepted = {tuple(pair) for pair in brute["accepted"]}
    joined = {tuple(pair) for pair in cold["pairs"]}
    group = cold["groups"]
    both = len(accepted & joined)
    grouped = sum(group[a] == group[b] for a, b in accepted)
    share = f"{both / len(accepted):.4f}" if accepted else "no pair to find"
    notes = [
        f"{cold['images']} images of {', '.join(datasets)} ({cold['distinct']} distinct pictures, {brute['all_pairs']} pairs, "
        "each compared directly and mirrored)",
        f"recall of the audit against all pairs: {both} of {len(accepted)} accepted pairs of distinct pictures ({share}); "
        f"in the same group: {grouped}",
        f"pairs that the audit accepts: {len(joined)}, of them outside of what brute force accepts: "
        + (f"{len(joined - accepted)}" if scale == 1 else "not known from a sample"),
        f"cold: nothing in the cache, the vocabulary is learnt, too; {cold['seconds_scan']:.1f} s of it read the files. "
        "All pairs start from described pictures, which favours them",
        "ratio: seconds of all pairs over the row's seconds; peak memory: " + MEMORY,
    ]
    if scale > 1:
        notes.insert(0, f"**{brute['compared']} random pairs were timed and scaled up {scale:.1f}-fold** (--sample)")
    missed = sorted(accepted - joined)
    report("Speed of the audit", table, notes, about=about, out=out, more={"missed by the audit": missed}, echo=click.echo)


@main.command()
@click.argument("sizes", nargs=-1, type=click.IntRange(min=20))
@click.option("--size", type=click.IntRange(min=64), default=128, show_default=True, help="Width of a picture in pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the phantoms.")
@_jobs
@_out
def growth(sizes: tuple[int, ...], size: int, seed: int, jobs: int | None, out: Path | None) -> None:
    """Seconds over phantoms of SIZES pictures (1000 4000 16000 if none is given), and the exponent."""
    about = machine()
    sizes = tuple(sorted(set(sizes or (1000, 4000, 16000))))
    if len(sizes) < 2:
        raise MpoxError("An exponent needs two sizes at least: name them, such as 1000 4000.")
    rows = []
    for n in sizes:
        images = ensure_phantom(phantom_of(n, size=size, seed=seed), jobs=jobs)
        for words in _BOOKS:
            codebook(words)
        with tempfile.TemporaryDirectory(prefix="mpox-benchmark-cache-") as cache:
            (Path(cache) / "audit").mkdir()
            for book in (cache_dir() / "audit").glob("codebook-*.npz"):
                shutil.copy(book, Path(cache) / "audit")
            arguments = ["phase-audit", str(images), *(["--jobs", str(jobs)] if jobs else [])]
            done = run_phase(_SCRIPT, arguments, cache=Path(cache))
        parts = {f"{name} s": done[f"seconds_{name}"] for name in ("scan", "describe", "find")}
        rows.append({"pictures": done["images"], "seconds": done["seconds"], **parts})
        rows[-1] |= {"comparisons": done["compared"], "accepted": len(done["pairs"]), "peak MiB": done["peak_mib"]}
        click.echo(f"{done['images']} pictures: {done['seconds']:.1f} s", err=True)
    table = pd.DataFrame(rows)
    fitted, slopes = exponent(table["pictures"].tolist(), table["seconds"].tolist())
    finding, _ = exponent(table["pictures"].tolist(), table["find s"].tolist())
    table["slope"] = [float("nan"), *slopes]
    notes = [
        f"seconds grow with the number of pictures to the power of **{fitted:.2f}** (least squares of the logarithms); "
        f"{finding:.2f} for finding alone (retrieval and comparison); slope: from the row above to this one",
        f"phantoms of {size} px, seed {seed}, one picture in eleven a copy, all kinds; not patients",
        "the cache is empty but for the vocabularies; scan: files read and hashed, describe: local features, find: the rest",
        "peak memory: " + MEMORY,
    ]
    report(
        "Growth of the audit",
        table,
        notes,
        about=about,
        out=out,
        more={"exponent": fitted, "exponent of finding": finding},
        echo=click.echo,
    )


def phantom_of(n_pictures: int, *, size: int, seed: int) -> PhantomSpec:
    """The phantom that comes closest to so many pictures from below, one patient in five copied once."""
    who = PhantomSpec(seed=seed, n_patients=1, copies=0, label_conflicts=0)
    n_patients = taken = 0
    while True:
        more = taken + person(who, n_patients).n_pictures
        if n_patients and more + (n_patients + 1) // 5 > n_pictures:
            break
        n_patients, taken = n_patients + 1, more
    return PhantomSpec(seed=seed, n_patients=n_patients, size=size, copies=n_patients // 5, label_conflicts=0)


def _manifests(datasets: tuple[str, ...], data_dir: str | None) -> list[pd.DataFrame]:
    return [build_manifest(name, data_dir=data_dir) for name in datasets]


def _by_pixels(audit: Audit) -> list[list[str]]:
    """The accepted pairs of distinct pictures, each by its two ``pixel_sha256``, sorted."""
    pixels = audit.images.set_index(["dataset", "image_id"])["pixel_sha256"]
    sides = [pixels.loc[list(zip(audit.pairs[f"dataset_{s}"], audit.pairs[f"image_id_{s}"], strict=True))] for s in "ab"]
    return sorted({tuple(sorted(pair)) for pair in zip(*sides, strict=True) if pair[0] != pair[1]})


def _n_compared() -> int:
    """Comparisons in the cache; a pair that was looked at directly and mirrored counts as two."""
    with closing(sqlite3.connect(pairs.VerdictCache().path)) as base:
        return base.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0]


@main.command("phase-audit", hidden=True)
@click.argument("datasets", nargs=-1, required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
@_data
@_jobs
def phase_audit(datasets: tuple[str, ...], result: Path, data_dir: str | None, jobs: int | None) -> None:
    """One audit in this process, part by part."""
    clock = [time.perf_counter()]
    manifests = _manifests(datasets, data_dir)
    clock.append(time.perf_counter())
    features.ensure_features(pd.concat(manifests), jobs=jobs)
    clock.append(time.perf_counter())
    audit = run_audit(manifests, overrides=_NOBODY, jobs=jobs)
    clock.append(time.perf_counter())
    parts = dict(zip(("scan", "describe", "find"), [b - a for a, b in zip(clock, clock[1:], strict=False)], strict=True))
    content = {
        "images": len(audit.images),
        "distinct": int(audit.images["pixel_sha256"].nunique()),
        "seconds": clock[-1] - clock[0],
        **{f"seconds_{name}": seconds for name, seconds in parts.items()},
        "compared": _n_compared(),
        "pairs": _by_pixels(audit),
        "groups": dict(zip(audit.images["pixel_sha256"], audit.images["group_id"], strict=True)),
    }
    result.write_text(json.dumps(content))


@main.command("phase-brute", hidden=True)
@click.argument("datasets", nargs=-1, required=True)
@click.option("--result", type=click.Path(path_type=Path), required=True)
@click.option("--sample", type=int)
@_data
@_jobs
def phase_brute(datasets: tuple[str, ...], result: Path, sample: int | None, data_dir: str | None, jobs: int | None) -> None:
    """All pairs, or a sample of them, in this process."""
    manifests = _manifests(datasets, data_dir)
    distinct = pd.concat(manifests)["pixel_sha256"].nunique()
    begin = time.perf_counter()
    verified = brute_force(manifests, sample=sample, jobs=jobs)
    seconds = time.perf_counter() - begin
    accepted = verified.loc[verified["score"] >= pairs.ACCEPTED, ["a", "b"]].values.tolist()
    content = {"seconds": seconds, "compared": len(verified), "all_pairs": distinct * (distinct - 1) // 2, "accepted": accepted}
    result.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
