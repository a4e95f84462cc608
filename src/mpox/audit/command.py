"""What ``mpox audit`` does: data sets audited together, and everything that is known of them written to a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mpox._core import MpoxError, atomic_write
from mpox.audit import Audit, run_audit
from mpox.audit.pages import datasheet, review_html
from mpox.audit.quality import image_quality, skin_tone
from mpox.audit.result import read_overrides
from mpox.data.manifest import scan


def audit_folder(
    names: Sequence[str],
    out: Path,
    *,
    data_dir: str | None = None,
    overrides: Path | None = None,
    patients: Path | None = None,
    patient_pattern: str | None = None,
    review: bool = False,
    jobs: int | None = None,
    say: Callable[[str], None] = print,
) -> Audit:
    """Audit data sets, registered or folders, together, and write everything that is known of them.

    Parameters
    ----------
    names : sequence of str
    out : Path
        Folder for the tables (see `Audit.write`), ``quality.csv``, ``datasheet-<name>.md`` and, if asked for, ``review.html``.
    data_dir, patients, patient_pattern
        See `mpox.data.manifest.scan`.
    overrides : Path, optional
        See `mpox.audit.result.read_overrides`.
    review : bool
        Write the review page, which holds the pictures of the pairs.
    jobs : int, optional
        Processes; all cores by default.
    say : callable
        Told the summary.

    Raises
    ------
    MpoxError
        If a data set is missing, there is no usable picture at all, or `out` cannot be written.
    """
    decisions = read_overrides(overrides)
    manifests = []
    for name in names:
        found = scan(name, data_dir=data_dir, patients=patients, patient_pattern=patient_pattern, jobs=jobs)
        manifests.append(found)
        _say_scan(found, say)
    _write({"rejected.csv": _rejected(manifests)}, out)  # first: it is what a user needs where nothing can be used
    audit = run_audit(manifests, overrides=decisions, jobs=jobs)
    used = [manifest for manifest in manifests if len(manifest)]
    quality = pd.concat([image_quality(manifest, jobs=jobs) for manifest in used], ignore_index=True)
    tone = pd.concat([skin_tone(manifest, jobs=jobs) for manifest in used], ignore_index=True)
    both = quality.merge(tone.drop(columns="label"), on=["dataset", "image_id"], validate="1:1")
    texts = {"quality.csv": both.to_csv(index=False, lineterminator="\n")}
    texts |= {f"datasheet-{name}.md": datasheet(audit, name, quality=quality, tone=tone) for name in audit.datasets}
    if review:
        texts["review.html"] = review_html(audit)
    _write(texts | audit.texts(), out)
    _say_audit(audit, say)
    say(f"\nWritten to {out}: {', '.join(sorted(texts | audit.texts()))}.")
    return audit


def _write(texts: dict[str, str], out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            atomic_write(out / name, text)
    except OSError as error:
        raise MpoxError(f"{out} cannot be written ({error.strerror}): free space, or name another folder with --out.") from error


def _rejected(manifests: list[pd.DataFrame]) -> str:
    rows = [(manifest.attrs["source"], *entry) for manifest in manifests for entry in manifest.attrs["rejected"]]
    return pd.DataFrame(rows, columns=["dataset", "image_id", "reason"]).to_csv(index=False, lineterminator="\n")


def _say_scan(found: pd.DataFrame, say: Callable[[str], None]) -> None:
    about, labels = found.attrs, found["label"].value_counts()
    classes = ", ".join(f"{label} {count}" for label, count in labels.items())
    say(f"{about['source']}: {len(found)} pictures ({classes or 'none'}), {len(about['rejected'])} files rejected.")
    for folder in about["empty"]:
        say(f"  The folder {folder} has no usable picture.")
    for alike in about["alike"]:
        say(f"  Names that differ only in case or accents: {', '.join(alike)}.")
    if len(labels) == 1:
        say(f"  There is one class only ({labels.index[0]}): copies are found, but no classifier can be trained on it.")


def _say_audit(audit: Audit, say: Callable[[str], None]) -> None:
    for row in audit.summary.to_dict("records"):
        say(
            f"{row['data set']}: {row['pairs']} pairs show the same photograph ({row['exact pairs']} of them pixel for pixel), "
            f"{row['images with a copy']} of {row['images']} pictures have a copy; {row['doubtful pairs']} pairs are in doubt "
            f"and link nothing. {row['groups']} groups, the largest of {row['largest group']} pictures. Conflicts: "
            f"{row['label conflicts']} of labels, {row['patient conflicts']} of patients."
        )
    if len(audit.datasets) > 1:
        say("\nPictures (rows) with a copy in (columns):\n" + audit.overlap.to_string())
