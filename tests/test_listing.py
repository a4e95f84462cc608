"""`mpox runs list`: what the store holds is told as it is, whole or damaged, and nothing is changed."""

import io
import json
from dataclasses import replace

import pandas as pd
import pytest
from click.testing import CliRunner
from test_store import CONFIG, result

from mpox._core import project_root
from mpox.cli import main
from mpox.runs.listing import find_run, list_runs
from mpox.runs.store import RunStore

CONFIGS = [replace(CONFIG, fold=fold, protocol="patient" if fold == 3 else "source") for fold in range(4)]


@pytest.fixture
def store(tmp_path, monkeypatch) -> RunStore:
    """Four runs of 1.5, 2.5, ... seconds."""
    monkeypatch.setenv("MPOX_RUN_STORE", str(tmp_path / "store"))
    store = RunStore(tmp_path / "store")
    for config in CONFIGS:
        about = {"seconds": 1.5 + config.fold, "device": "cpu (abacus)"}
        store.run(config, lambda folder, config=config, about=about: replace(result(config), environment=about))
    return store


def listed(*words):
    return CliRunner().invoke(main, ["runs", "list", *words])


def test_every_run_is_a_row_with_what_it_took(store):
    (store.root / "runs" / f".{CONFIG.id}.tmp").mkdir()  # a killed run left it
    table = list_runs().set_index("id")
    assert sorted(table.index) == sorted(config.id for config in CONFIGS) and not table["damaged"].any()
    for config in CONFIGS:
        row, folder = table.loc[config.id], store.run_folder(config)
        assert (row["fold"], row["protocol"]) == (config.fold, config.protocol)
        assert (row["regime"], row["image_size"]) == ("linear_probe", 64)
        assert (row["seconds"], row["device"]) == (1.5 + config.fold, "cpu (abacus)")
        assert row["bytes"] == sum(len(path.read_bytes()) for path in folder.iterdir())
        assert abs(row["date"].timestamp() - (folder / "config.json").stat().st_mtime) <= 1


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", "{"), ("config.json", "[]"), ("config.json", '{"model": 3}'), ("environment.json", '"x"'),
     ("predictions.csv", ""), ("history.csv", None)],
)  # fmt: skip
def test_a_damaged_run_is_listed_as_damaged(store, file, content):
    path = store.run_folder(CONFIGS[0]) / file
    path.unlink() if content is None else path.write_text(content)
    assert list_runs().set_index("id")["damaged"].to_dict() == {config.id: config is CONFIGS[0] for config in CONFIGS}
    assert "damaged" in listed().output


def test_list_filters_sorts_and_adds_up(store, tmp_path):
    said = listed("--protocol", "source", "--sort", "seconds").output
    assert [line.split()[0] for line in said.splitlines()[1:4]] == [config.id for config in CONFIGS[:3]]
    assert CONFIGS[3].id not in said and "3 runs; computing them took 7.5 s; 0.0 MB on the disk." in said
    table = pd.read_csv(io.StringIO(listed("--csv").output), dtype={"id": "str"})
    assert len(table) == 4 and table["seconds"].sum() == 12
    failed = listed("--regime", "telepathy")
    assert failed.exit_code == 1 and "there is linear_probe" in failed.stderr
    failed = listed("--store", str(tmp_path / "nowhere"))
    assert failed.exit_code == 1 and failed.stderr.startswith("mpox: There is no run store in")
    assert not (tmp_path / "nowhere").exists()
    RunStore(tmp_path / "empty")
    assert "0 runs; computing them took 0.0 s" in listed("--store", str(tmp_path / "empty")).output


def test_the_recorded_study_is_listed():
    entries = json.loads((project_root() / "results" / "runs.json").read_text())
    table = list_runs("recorded")
    assert set(table["id"]) == {entry["id"] for entry in entries} and table[["bytes", "date"]].isna().all(axis=None)
    assert table["seconds"].sum() == pytest.approx(sum(entry["seconds"] for entry in entries)) and not table["damaged"].any()


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    assert find_run(store, CONFIG.id[:6].upper()).config == CONFIG
    twin = store.root / "runs" / (CONFIG.id[:6] + "0" * 10)
    twin.mkdir()
    with pytest.raises(Exception, match=f"ids of 2 runs begin with '{CONFIG.id[:6]}'"):
        find_run(store, CONFIG.id[:6])
