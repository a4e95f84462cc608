"""What may not change while the package is rebuilt: the ids, hashes, versions, metrics and findings of the recorded study.

After a move only the imports and the addresses in `VERSIONS` need an edit. A change that is meant is written down anew with
``python tests/test_contract.py --findings RUN_FOLDER`` (the findings, from a run of the profile recorded) and
``python tests/test_contract.py --hashes`` (everything else), and the commit says why.
"""

import argparse
import hashlib
import json
import re
import tempfile
from datetime import datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import mpox
from mpox import ModelConfig, cross_validate
from mpox._core import project_root
from mpox.audit import audit_version, run_audit
from mpox.book.chapters import read_chapters
from mpox.book.run import declared_parameters, list_notebooks, load_profile, read_run_folder, run_notebooks
from mpox.data.changes import corruption_recipes, recipe_hash, view_hash
from mpox.data.manifest import build_manifest, manifest_hash
from mpox.data.phantom import PhantomSpec, generate
from mpox.models.config import RunConfig
from mpox.protocols.copies import augmented
from mpox.protocols.splits import make_external_split, make_splits, split_hash
from mpox.runs.cross_validation import predict_nested
from mpox.runs.recorded import RecordedStore, recorded_metrics
from mpox.studies.external import cross_validate_mixed, every_way, external_pair, own_pictures, predict_domain
from mpox.studies.leakage import leak_dose
from mpox.studies.learning_curve import learning_curve
from mpox.studies.shortcuts import CORRUPTED, only_tested, train_and_test, train_with_copies

#: Every number that is part of an id or of a key, by its address.
VERSIONS = {
    "mpox.models.config.ENGINES": {
        "linear_probe": 1, "nearest_neighbour": 1, "svm": 1, "tail_tune": 2, "fine_tune": 2, "scratch": 2,
    },
    "mpox.models.config.GPU_ENGINE": 1,
    "mpox.audit.accuracy.VERSION": 1, "mpox.audit.features.VERSION": 3, "mpox.audit.pairs.VERSION": 3,
    "mpox.audit.quality.QUALITY_VERSION": 1, "mpox.audit.retrieval.CODEBOOK_VERSION": 1,
    "mpox.audit.retrieval.RETRIEVAL_VERSION": 2, "mpox.audit.verification.VERSION": 5,
    "mpox.data.changes.ALTERATIONS_VERSION": 1, "mpox.data.changes.CORRUPTIONS_VERSION": 1,
    "mpox.data.changes.LESION_MAP_VERSION": 1, "mpox.data.changes.TONE_TRANSFER_VERSION": 1,
    "mpox.data.frozen.FORMAT_VERSION": 1, "mpox.data.phantom.VERSION": 2, "mpox.data.skintone.SKIN_TONE_VERSION": 1,
    "mpox.models.batches.VERSION": 1, "mpox.models.explain.VERSION": 1, "mpox.models.features.VERSION": 1,
    "mpox.runs.predict.VERSION": 2, "mpox.studies.errors.VERSION": 1, "mpox.studies.intervals.VERSION": 1,
    "mpox.studies.labels.VERSION": 1, "mpox.studies.saliency.VERSION": 1, "mpox.studies.shortcuts.CELLS_VERSION": 1,
    "mpox.studies.shortcuts.FACTS_VERSION": 1,
}  # fmt: skip

PACKAGE = Path(mpox.__file__).parent
RESULTS = project_root() / "results"
FINDINGS = Path(__file__).with_name("contract_findings.json")
HASHES = Path(__file__).with_name("contract_hashes.json")
NUMBERS = ["estimate", "low", "high"]


@pytest.fixture(scope="module")
def hashes() -> dict:
    return json.loads(HASHES.read_text())


@pytest.fixture(scope="module")
def store() -> RecordedStore:
    return RecordedStore(RESULTS)


def recorded_runs() -> list[dict]:
    return json.loads((RESULTS / "runs.json").read_text())


def test_every_recorded_run_keeps_its_id():
    runs = recorded_runs()
    assert len({run["id"] for run in runs}) == len(runs) == 3268
    assert [run["id"] for run in runs if RunConfig.from_dict(run["config"]).id != run["id"]] == []


def test_the_rows_of_every_recorded_split_keep_their_hash():
    tables = dict(list(pd.read_parquet(RESULTS / "splits.parquet").groupby("split")))
    assert set(tables) == {run["config"]["split"] for run in recorded_runs()} and len(tables) == 1294
    assert [name for name, rows in tables.items() if split_hash(rows.dropna(axis=1, how="all")) != name] == []


@pytest.mark.slow
def test_every_recorded_split_is_dealt_again(store):
    """From the manifests and audits. A run is read by its id, which holds the split's hash: what is found was dealt alike."""
    store.used_runs.clear()
    ask_as_the_chapters_do(store)
    runs = {run["id"]: run["config"] for run in recorded_runs()}
    dealt = {runs[name]["split"] for name in store.used_runs}
    assert {run["protocol"] for run in runs.values() if run["split"] not in dealt} == set()
    assert len(dealt) == 1294


def ask_as_the_chapters_do(store: RecordedStore) -> None:
    """One model a split: the linear probe of the reference network, by every function of the package that deals a split."""
    asked = load_profile("recorded").parameters
    for chapter in list_notebooks():
        asked = declared_parameters(chapter) | asked
    folds = {"n_folds": asked["N_FOLDS"], "seed": asked["SEED"]}
    probe = ModelConfig(backbone=asked["BACKBONE"], image_size=asked["IMAGE_SIZE"])
    datasets = {data.name: data for data in store.datasets(asked["DATASETS"])}
    for name, protocols in asked["PROTOCOLS"].items():
        data = datasets[name]
        for protocol in protocols:
            cross_validate(store, data, protocol, probe, n_repeats=asked["REPEATS"]["linear_probe"], **folds)
        views = augmented(data, asked["AUGMENTED_VIEWS"])
        cross_validate(store, views, "augment_before_split", probe, **folds)
        leak_dose(store, views, probe, doses=asked["CROSSING_SHARES"], **folds)
        leak_dose(store, data, probe, doses=asked["DOSES"], n_repeats=asked["DOSE_REPEATS"]["linear_probe"], **folds)
        shares, repeats = asked["FRACTIONS"], asked["CURVE_REPEATS"]
        learning_curve(store, data, protocols[-1], probe, fractions=shares, n_repeats=repeats, **folds)
        split = make_splits(data.manifest, "source", **folds)
        predict_nested(store, data, split, probe)
        unmirrored = data, split, probe.with_(mirror=False)
        for recipe in asked["ALTERATIONS"]:
            train_and_test(store, *unmirrored, recipe)
        only_tested(store, *unmirrored, asked["ALTERATIONS"])
        corrupted = corruption_recipes(asked["CORRUPTIONS"], asked["STRENGTHS"]) + asked["TRANSFORMS"]
        only_tested(store, *unmirrored, corrupted, protocol=CORRUPTED)
        train_with_copies(store, *unmirrored, [f"tone-{number + 1}" for number in range(asked["TONE_COPIES"])])
    for pair in asked["EXTERNAL"]:
        both = external_pair(store, *pair, study=asked["DATASETS"])[0]
        repeated = {**folds, "n_repeats": asked["EXTERNAL_REPEATS"]}
        every_way(store, both, *pair, probe, n_copies=asked["COLOUR_COPIES"], **repeated)
        own_pictures(store, both, *pair, probe, fractions=asked["OWN_SHARES"], **repeated)
        predict_nested(store, both, make_external_split(both.manifest, *pair), probe)
        for label in (None, *both.classes):
            predict_domain(store, both, probe, label=label, **folds)
    for pair in asked["MIXED"]:
        both = external_pair(store, *pair, study=asked["DATASETS"])[0]
        cross_validate_mixed(store, datasets[pair[0]], both, probe, n_repeats=asked["N_REPEATS"], **folds)


@pytest.mark.slow
def test_metrics_are_the_recorded_ones(store, hashes):
    computed, stored = recorded_metrics(store), pd.read_csv(RESULTS / "metrics.csv")
    settings = [name for name in stored if name not in NUMBERS]
    pd.testing.assert_frame_equal(computed[settings], stored[settings], check_dtype=False)
    np.testing.assert_allclose(computed[NUMBERS], stored[NUMBERS], rtol=0, atol=1e-6)
    rows = hashes["metrics"]
    kept = np.array(list(rows.values()))
    np.testing.assert_allclose(computed.loc[[int(row) for row in rows], NUMBERS], kept, rtol=0, atol=1e-12)


def test_the_recorded_tables_keep_their_keys(hashes):
    """A name ends in the hash of its spec; that today's specs give these keys, the findings show, which are read from them."""
    assert sorted(path.name for path in (RESULTS / "tables").iterdir()) == hashes["tables"]


def test_every_version_is_what_it_was():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(["mpox", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for name in re.findall(r"^(?:[A-Z_]+, )*([A-Z_]*VERSION|[A-Z_]*ENGINES?)\b[^=\n]*= ", path.read_text(), re.M):
            found[f"{module}.{name}"] = getattr(import_module(module), name)
    assert found == VERSIONS


def test_the_audit_keeps_its_version(hashes):
    assert audit_of_any_library() == hashes["audit"]


def audit_of_any_library() -> str:
    return audit_version().replace(f"opencv-{cv2.__version__}-sklearn-{version('scikit-learn')}", "LIBRARIES")


def test_altered_and_augmented_pictures_keep_their_hashes(hashes):
    assert picture_hashes() == hashes["pictures"]


def picture_hashes() -> dict[str, str]:
    sha = hashlib.sha256(b"a picture").hexdigest()
    views = {"view 1": (1, 0), "view 13, seed 2": (13, 2), "view 3, colour": (3, 0, "colour")}
    recipes = {recipe: recipe_hash(sha, recipe) for recipe in ("covered", "blur-3", "tone-2")}
    return recipes | {name: view_hash(sha, *how) for name, how in views.items()}


def test_the_phantom_and_its_audit_keep_their_hashes(tmp_path, hashes):
    assert phantom_hashes(tmp_path) == hashes["phantom"]


def phantom_hashes(folder: Path) -> dict[str, str]:
    """Of the manifest, which holds every pixel, and of the groups that the audit finds in it."""
    manifest = build_manifest(str(generate(folder / "phantom", PhantomSpec(seed=7, n_patients=6, size=96, copies=3), jobs=1)))
    groups = run_audit([manifest], jobs=1, progress=False).groups[["image_id", "group_id"]].sort_values("image_id")
    return {
        "manifest": manifest_hash(manifest),
        "groups": hashlib.sha256(groups.to_csv(index=False, lineterminator="\n").encode()).hexdigest()[:16],
    }


@pytest.mark.slow
def test_the_recorded_chapters_say_what_they_said(tmp_path):
    """Word for word. ``make book`` leaves their run; where there is none of the present code, they are run here: some minutes."""
    folder = project_root() / "_runs" / "recorded"
    if not is_of_the_present_code(folder):
        folder = tmp_path / "recorded"
        assert run_notebooks(profile="recorded", out=folder).failure is None
    kept, found = (flat(findings) for findings in (json.loads(FINDINGS.read_text()), read_findings(folder)))
    changed = [key for key in sorted({*kept, *found}) if kept.get(key) != found.get(key)]
    said = [f"{key}\n  was: {kept.get(key, '(not there)')}\n  is:  {found.get(key, '(not there)')}" for key in changed]
    assert not changed, "\n".join([f"{len(changed)} findings differ:", *said])


def is_of_the_present_code(folder: Path) -> bool:
    """Whether a run is whole, of the notebooks as they are, and began after the last change of the package and the records."""
    if not (folder / "run.json").is_file():
        return False
    run = read_run_folder(folder)
    folder = project_root() / "notebooks"
    sources = {name: hashlib.sha256((folder / f"{name}.py").read_bytes()).hexdigest() for name in list_notebooks()}
    package = [path for path in PACKAGE.rglob("*.*") if path.suffix in (".py", ".csv", ".yml")]
    read = [*package, *RESULTS.rglob("*.*"), *(project_root() / "profiles").glob("*.yml")]
    newest = max(path.stat().st_mtime for path in read)
    same = {name: notebook.source_sha256 for name, notebook in run.notebooks.items()} == sources
    usual = run.parameters == load_profile("recorded").parameters
    return run.ok and bool(run.finished) and same and usual and newest < datetime.fromisoformat(run.started).timestamp()


def read_findings(folder: Path) -> dict[str, dict[str, str]]:
    """Chapter to key to text, without ``provenance``, which has times."""
    return {chapter.name: dict(sorted(chapter.findings.items())) for chapter in read_chapters(folder)}


def flat(findings: dict[str, dict[str, str]]) -> dict[str, str]:
    return {f"{chapter}: {key}": text for chapter, texts in findings.items() for key, text in texts.items()}


def update_hashes() -> None:
    metrics = recorded_metrics(RecordedStore(RESULTS))
    rows = np.linspace(0, len(metrics) - 1, 60).round().astype(int)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "audit": audit_of_any_library(),
            "pictures": picture_hashes(),
            "phantom": phantom_hashes(Path(folder)),
            "tables": sorted(path.name for path in (RESULTS / "tables").iterdir()),
            "metrics": {str(row): metrics.loc[row, NUMBERS].astype(float).tolist() for row in rows},
        }
    text = json.dumps(found, indent=1)
    HASHES.write_text(re.sub(r"\[\s+([^\]\"]+?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the contract down anew.")
    parser.add_argument("--findings", metavar="RUN_FOLDER", help="from a finished run of the profile recorded")
    parser.add_argument("--hashes", action="store_true")
    wanted = parser.parse_args()
    if wanted.findings:
        FINDINGS.write_text(json.dumps(read_findings(Path(wanted.findings)), indent=1, ensure_ascii=False) + "\n")
    if wanted.hashes:
        update_hashes()
