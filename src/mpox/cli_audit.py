"""The command ``mpox audit``."""

from pathlib import Path

import click


@click.command("audit")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the tables.")
@click.option("--data-dir", metavar="DIR", help="Where the registered data sets lie (default: MPOX_DATA, then the cache folder).")
@click.option("--overrides", type=click.Path(path_type=Path), help="CSV of pairs that you confirm or reject, with reasons.")
@click.option("--patients", type=click.Path(path_type=Path), help="CSV with image_id (or file) and patient_id; one DATASET only.")
@click.option("--patient-pattern", metavar="REGEX", help="Patient id in the file's name: group 'patient'; one DATASET only.")
@click.option("--review", is_flag=True, help="Also write review.html, with the pictures: for your eyes only.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; all cores by default.")
def audit(datasets, out, data_dir, overrides, patients, patient_pattern, review, jobs) -> None:
    """Find every photograph that appears twice in the DATASETs (registered names or folders), within one and across them.

    \b
    mpox audit msld-v1 msid --out audit
    mpox audit ./my_pictures --out audit --patient-pattern "(?P<patient>[A-Z]+[0-9]+)_"

    Writes groups.csv (what must stay together), pairs.csv (the same photograph, with the evidence), weak_pairs.csv (doubtful,
    they link nothing), conflicts.csv (one photograph, two labels or two patients), rejected.csv (files that cannot be used),
    quality.csv (blur, exposure, borders, captions, skin tone), summary.csv and a data sheet for each data set.
    """
    from mpox.audit.command import audit_folder
    from mpox.errors import MpoxError

    if len(datasets) > 1 and (patients or patient_pattern):
        raise MpoxError("--patients and --patient-pattern describe one data set: audit it alone, or put a patients.csv in it.")
    audit_folder(
        datasets, out, data_dir=data_dir, overrides=overrides, patients=patients, patient_pattern=patient_pattern,
        review=review, jobs=jobs, say=click.echo,
    )  # fmt: skip
