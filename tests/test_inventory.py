"""`mpox runs list` and `mpox runs show`: what the store holds is told as it is, finished or not, and nothing is changed."""

import io
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sklearn.metrics import accuracy_score, roc_auc_score
from test_book import glued

from mpox._core import MpoxError, project_root
from mpox.book.inventory import list_runs, show_run
from mpox.cli import main
from mpox.models.config import ModelConfig, RunConfig
from mpox.runs.store import RunResult, RunStore

CONFIGS = [RunConfig("tiny", "0" * 16, "source", f"{fold}" * 16, 0, fold, ModelConfig(image_size=64)) for fold in range(4)]
AUDITS = {"tiny": f"tiny-{'a' * 16}", "tiny+other": f"tiny+other-{'b' * 16}"}


def result(config: RunConfig) -> RunResult:
    rng = np.random.default_rng(config.fold)
    p = rng.random(20)
    labels = np.where(rng.random(20) < 0.5, "Mpox", "Normal")
    images = [f"{number:02d}" for number in range(20)]
    predictions = pd.DataFrame({"image_id": images, "label": labels, "p_Mpox": p, "p_Normal": 1 - p})
    history = pd.DataFrame({"strength": [1e-5, 0.3], "validation_loss": [0.7, 0.6], "chosen": [False, True]})
    return RunResult(config, predictions, history, {"seconds": 1.5 + config.fold, "device": "cpu (abacus)"})


def make_store(root: Path) -> tuple[RunStore, list[str]]:
    """A store with four runs and their splits, two derived tables, two audits and two manifests; and the tables' keys."""
    store = RunStore(root)
    for config in CONFIGS:
        store.keep_split(config.split, pd.DataFrame({"image_id": ["00"], "role": ["test"]}))
        store.run(config, lambda folder, config=config: result(config))
    for number in range(2):
        store.table("small", {"number": number}, lambda: pd.DataFrame({"x": [1.5]}))
    for name, key in AUDITS.items():
        (root / "audits" / key).mkdir(parents=True)
        (root / "audits" / key / "summary.csv").write_text("x\n1\n")
        (root / "manifests").mkdir(exist_ok=True)
        (root / "manifests" / f"{name.split('+')[-1]}.csv").write_text("image_id\n00\n")
    return store, list(store.used_tables)


def make_run_folder(folder: Path, *, runs, tables=(), audits=(), store="live", status="done") -> Path:
    """A run folder whose first notebook, which is done, says what it used; the second has the status."""
    provenance = {
        "phantom": False, "datasets": ["tiny"], "run_ids": list(runs), "table_ids": list(tables), "store": store,
        "audits": {name: AUDITS[name] for name in audits},
    }  # fmt: skip
    folder.mkdir(parents=True)
    entry = {"duration_s": 1.0, "parameters": {}, "source_sha256": "0" * 64, "error": None}
    for name, what in (("01_first", provenance), ("02_second", provenance | {"run_ids": [], "table_ids": [], "audits": {}})):
        cells = [new_markdown_cell("# Title"), new_code_cell("", outputs=[glued("provenance", json.dumps(what))])]
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    about = {
        "profile": folder.name, "profile_file": "profiles/cpu.yml", "parameters": {}, "package_version": "0.1.0",
        "started": "2026-01-02T10:00:00+00:00", "finished": "2026-01-02T10:05:00+00:00" if status == "done" else None,
        "notebooks": {"01_first": entry | {"status": "done"}, "02_second": entry | {"status": status}},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@contextmanager
def held_by_another_process(lock: Path):
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print(flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "\n"
        yield
        process.stdin.close()
    assert process.returncode == 0


def interrupt(store: RunStore, config: RunConfig, epochs: int) -> Path:
    """Stop a run after some epochs; returns the folder that it leaves."""

    def compute(folder: Path):
        history = [{"epoch": number, "validation_loss": 1 / (number + 1)} for number in range(epochs)]
        (folder / "state.json").write_text(json.dumps({"file": "epoch.safetensors", "history": history}))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(config, compute)
    return store.run_folder(config).with_name(f".{config.id}.partial")


@pytest.fixture
def study(tmp_path, monkeypatch) -> RunStore:
    """A project with a store of its own; the run folder ``cpu`` used the first two runs and one table, audit and manifest."""
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path / "project"))
    monkeypatch.setenv("MPOX_RUN_STORE", str(tmp_path / "store"))
    store, tables = make_store(tmp_path / "store")
    runs = [config.id for config in CONFIGS[:2]]
    make_run_folder(tmp_path / "project" / "_runs" / "cpu", runs=runs, tables=tables[:1], audits=["tiny"])
    return store


@pytest.fixture
def invoke():
    return lambda *words: CliRunner().invoke(main, ["runs", *words])


def test_every_run_is_a_row_with_what_it_took_and_who_used_it(study, tmp_path):
    make_run_folder(tmp_path / "project" / "_runs" / "again", runs=[CONFIGS[1].id])
    table = list_runs().set_index("id")
    assert sorted(table.index) == sorted(config.id for config in CONFIGS)
    assert (table["state"] == "whole").all()
    for config in CONFIGS:
        row, folder = table.loc[config.id], study.run_folder(config)
        assert (row["fold"], row["split"], row["regime"], row["image_size"]) == (config.fold, config.split, "linear_probe", 64)
        assert (row["seconds"], row["device"]) == (1.5 + config.fold, "cpu (abacus)")
        assert row["bytes"] == sum(len(path.read_bytes()) for path in folder.iterdir())
        assert abs(row["date"].timestamp() - (folder / "config.json").stat().st_mtime) <= 1
    assert table.loc[[config.id for config in CONFIGS], "used_by"].tolist() == ["cpu", "again, cpu", "", ""]


def test_an_unfinished_run_is_known_by_what_was_asked_for_and_its_epoch(study):
    config = replace(CONFIGS[0], fold=7)
    partial = interrupt(study, config, epochs=3)
    row = list_runs().set_index("id").loc[config.id]
    assert (row["state"], row["epoch"], row["fold"], row["dataset"]) == ("unfinished", 3, 7, "tiny")
    shown = show_run(config.id[:15])
    assert shown.config == asdict(config) and shown.environment is None and shown.metrics.empty
    assert shown.history["epoch"].tolist() == [0, 1, 2]
    assert sorted(shown.files["file"]) == ["asked.json", "state.json"]
    with held_by_another_process(partial.with_name(f"{partial.name}.lock")):
        assert list_runs().set_index("id").loc[config.id, "state"] == "being computed"
    study.run(config, lambda folder: result(config))
    assert list_runs().set_index("id").loc[config.id, "state"] == "whole"


def test_what_a_whole_run_left_behind_does_not_hide_it_but_hides_a_damaged_one(study):
    for config in CONFIGS[:2]:
        shutil.copytree(study.run_folder(config), study.run_folder(config).with_name(f".{config.id}.partial"))
    (study.run_folder(CONFIGS[1]) / "history.csv").unlink()
    states = list_runs().set_index("id")["state"]
    assert (states[CONFIGS[0].id], states[CONFIGS[1].id], len(states)) == ("whole", "unfinished", 4)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", "[]", "config.json cannot be read"),
        ("config.json", '{"model": 3}', "config.json is of another run"),
        ("environment.json", '"x"', "environment.json cannot be read"),
        ("predictions.csv", "", "predictions.csv missing or empty"),
        ("history.csv", None, "history.csv missing or empty"),
    ],
)
def test_a_damaged_run_is_listed_as_damaged(study, invoke, file, content, problem):
    path = study.run_folder(CONFIGS[0]) / file
    path.unlink() if content is None else path.write_text(content)
    row = list_runs().set_index("id").loc[CONFIGS[0].id]
    assert (row["state"], row["problem"]) == ("damaged", problem)
    said = invoke("show", CONFIGS[0].id)
    assert said.exit_code == 0 and f"damaged: {problem}" in said.output


def test_show_reads_what_list_does_not(study):
    (study.run_folder(CONFIGS[0]) / "predictions.csv").write_text("image_id,label\n00,Mpox\n")
    assert list_runs().set_index("id").loc[CONFIGS[0].id, "state"] == "whole"
    shown = show_run(CONFIGS[0].id)
    assert shown.summary["state"] == "damaged" and "predictions.csv cannot be evaluated" in shown.summary["problem"]


def test_show_gives_configuration_history_files_and_the_metrics_of_the_test_fold(study, invoke):
    config, expected = CONFIGS[2], result(CONFIGS[2])
    shown = show_run(config.id[:14])
    assert shown.config == asdict(config) and shown.environment == expected.environment
    pd.testing.assert_frame_equal(shown.history, expected.history)
    metrics = shown.metrics.set_index(["metric", "class"])["estimate"]
    is_mpox, p = expected.predictions["label"] == "Mpox", expected.predictions["p_Mpox"]
    assert metrics["accuracy", "all"] == pytest.approx(accuracy_score(is_mpox, p > 0.5))
    assert metrics["auroc", "Mpox"] == pytest.approx(roc_auc_score(is_mpox, p))
    sizes = {path.name: path.stat().st_size for path in study.run_folder(config).iterdir()}
    assert shown.files.set_index("file")["bytes"].to_dict() == sizes
    said = invoke("show", config.id).output
    assert f"{metrics['auroc', 'Mpox']:.4f}" in said and '"protocol": "source"' in said and "used by no run folder" in said


def test_a_prefix_must_fit_one_run(study, invoke):
    for prefix, said in (("", "ids of 4 runs begin with"), ("xyz", "No run's id begins with 'xyz'"), ("../", "No run's id")):
        failed = invoke("show", prefix)
        assert failed.exit_code == 1 and said in failed.stderr and failed.stderr.startswith("mpox: ")


def test_a_missing_store_is_an_error_and_is_not_made(tmp_path, invoke):
    for words in (["list"], ["show", "0"], ["gc"]):
        failed = invoke(*words, "--store", str(tmp_path / "nowhere"))
        assert failed.exit_code == 1 and "There is no run store in" in failed.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_run_in_progress_counts_as_far_as_it_is_and_a_damaged_folder_is_named(study, tmp_path, invoke):
    make_run_folder(tmp_path / "project" / "_runs" / "now", runs=[CONFIGS[3].id], status="running")
    make_run_folder(tmp_path / "project" / "_runs" / "broken", runs=[]).joinpath("run.json").write_text("{")
    said = invoke("list", "--csv")
    table = pd.read_csv(io.StringIO(said.stdout), dtype={"id": "str"}).set_index("id")
    assert table.loc[CONFIGS[3].id, "used_by"] == "now" and table.loc[CONFIGS[0].id, "used_by"] == "cpu"
    assert "broken" in said.stderr and "is damaged" in said.stderr


def test_list_filters_sorts_and_adds_up(study, invoke):
    other = replace(CONFIGS[0], protocol="patient", fold=9)
    study.run(other, lambda folder: result(other))
    said = invoke("list", "--protocol", "source", "--sort", "seconds").output
    ids = [line.split()[0] for line in said.splitlines()[1:5]]
    assert ids == [config.id for config in CONFIGS] and other.id not in said
    assert "4 runs; computing them took 12.0 s; " in said and "2 used by no run folder" in said
    table = pd.read_csv(io.StringIO(invoke("list", "--csv").output), dtype={"id": "str"})
    assert len(table) == 5 and table["seconds"].sum() == 12.0 + 10.5
    failed = invoke("list", "--regime", "telepathy")
    assert failed.exit_code == 1 and "there is linear_probe" in failed.stderr


def test_a_store_without_runs_is_listed_as_empty(tmp_path, invoke):
    RunStore(tmp_path / "store")
    assert "0 runs; computing them took 0.0 s" in invoke("list", "--store", str(tmp_path / "store")).output


def test_the_recorded_study_is_listed_and_shown():
    entries = {entry["id"]: entry for entry in json.loads((project_root() / "results" / "runs.json").read_text())}
    table = list_runs("recorded").set_index("id")
    assert set(table.index) == set(entries) and table["bytes"].isna().all()
    assert table["seconds"].sum() == pytest.approx(sum(entry["seconds"] for entry in entries.values()))
    run_id = next(name for name, entry in entries.items() if entry["config"]["model"]["regime"] == "fine_tune")
    shown = show_run(run_id, "recorded")
    predictions = pd.read_parquet(project_root() / "results" / "predictions.parquet").query("run_id == @run_id")
    auroc = shown.metrics.set_index(["metric", "class"])["estimate"]["auroc", "Mpox"]
    assert auroc == pytest.approx(roc_auc_score(predictions["label"] == "Mpox", predictions["p_Mpox"]))
    assert shown.config == entries[run_id]["config"] and "epoch" in shown.history
    with pytest.raises(MpoxError, match="No run's id begins"):
        show_run("zz", "recorded")
