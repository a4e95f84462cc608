"""`mpox runs gc`: what a result refers to stays, what is in use or not known is not touched, and it asks first."""

import os
import pty
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_inventory import AUDITS, CONFIGS, held_by_another_process, interrupt, invoke, make_run_folder, result, study

from mpox._core import MpoxError
from mpox.book import garbage
from mpox.book.garbage import find_garbage, remove_garbage

__all__ = ["invoke", "study"]
WHOLE = {"config.json", "environment.json", "history.csv", "predictions.csv"}


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder, locks apart; links are not followed."""
    files = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    return {str(path.relative_to(root)): path.read_bytes() for path in files if path.suffix != ".lock" and path.is_file()}


def paths(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["path"], table["why"], strict=True))


def lock_of(study, config) -> Path:
    return study.run_folder(config).with_name(f".{config.id}.partial.lock")


def test_what_no_result_refers_to_goes_and_the_rest_stays_byte_for_byte(study):
    before = content(study.root)
    partial = interrupt(study, replace(CONFIGS[0], fold=8), epochs=2)
    found = find_garbage()
    done = remove_garbage(found)
    assert (done["failed"] == "").all() and found.left.empty and [Path(name).name for name in found.folders] == ["cpu"]
    gone = {f"runs/{config.id}" for config in CONFIGS[2:]} | {f"splits/{config.split}.csv" for config in CONFIGS[2:]}
    gone |= {f"tables/{list(study.used_tables)[1]}.csv", f"audits/{AUDITS['tiny+other']}", "manifests/other.csv"}
    after = content(study.root)
    assert after == {path: text for path, text in before.items() if not any(path.startswith(name) for name in gone)}
    assert len(before) - len(after) == 2 * 4 + 2 + 3 and not partial.exists()
    assert not list(study.root.rglob("*.lock")) and not list(study.root.rglob(".*"))
    assert done.loc[done["kind"] == "run", "bytes"].sum() == sum(
        len(text) for path, text in before.items() if any(path.startswith(f"runs/{config.id}") for config in CONFIGS[2:])
    )
    for config in CONFIGS[:2]:
        pd.testing.assert_frame_equal(study.get(config).predictions, result(config).predictions)
    assert find_garbage().remove.empty


def test_a_folder_named_with_keep_counts_wherever_it_is(study, tmp_path):
    elsewhere = make_run_folder(tmp_path / "elsewhere", runs=[CONFIGS[2].id])
    assert {f"runs/{CONFIGS[2].id}", f"splits/{CONFIGS[2].split}.csv"} <= set(find_garbage().remove["path"])
    removed = set(find_garbage(keep=[elsewhere]).remove["path"])
    assert not {f"runs/{CONFIGS[2].id}", f"splits/{CONFIGS[2].split}.csv"} & removed and f"runs/{CONFIGS[3].id}" in removed
    with pytest.raises(MpoxError, match="not known.*no run in"):
        find_garbage(keep=[tmp_path / "slip"])


def test_without_a_run_folder_all_must_be_said_and_with_one_it_must_not(study, tmp_path, invoke):
    with pytest.raises(MpoxError, match="leave it out"):
        find_garbage(everything=True)
    runs = tmp_path / "project" / "_runs"
    shutil.rmtree(runs / "cpu")
    make_run_folder(runs / "recorded", runs=[CONFIGS[0].id], store="recorded")  # it was read from results/, not from the store
    before = content(study.root)
    failed = invoke("gc", "--yes")
    assert failed.exit_code == 1 and "everything in it would go" in failed.stderr and "--all" in failed.stderr
    assert content(study.root) == before
    assert invoke("gc", "--yes", "--all").exit_code == 0
    assert content(study.root) == {}


@pytest.mark.parametrize("status", ["failed", "running", "pending"])
def test_nothing_goes_while_it_is_not_known_what_a_run_folder_used(study, tmp_path, invoke, status):
    make_run_folder(tmp_path / "project" / "_runs" / "quick", runs=[], status=status)
    before = content(study.root)
    failed = invoke("gc", "--yes")
    assert failed.exit_code == 1 and f"02_second is {status}" in failed.stderr and "--resume" in failed.stderr
    assert content(study.root) == before


def test_a_run_whose_lock_another_process_holds_is_not_touched(study):
    started = replace(CONFIGS[0], fold=8)
    partial = interrupt(study, started, epochs=2)
    with held_by_another_process(lock_of(study, started)), held_by_another_process(lock_of(study, CONFIGS[2])):
        found = find_garbage()
        left = paths(found.left)
        assert "computing" in left[f"runs/{partial.name}"] and "computing" in left[f"runs/{CONFIGS[2].id}"]
        remove_garbage(found)
        assert sorted(path.name for path in partial.iterdir()) == ["asked.json", "state.json"]
        assert lock_of(study, started).exists() and lock_of(study, CONFIGS[2]).exists()
        assert study.get(CONFIGS[2]) is not None and study.get(CONFIGS[3]) is None
        assert (study.root / "splits" / f"{CONFIGS[2].split}.csv").is_file()
    remove_garbage(find_garbage())
    assert not partial.exists() and study.get(CONFIGS[2]) is None


def test_a_run_that_is_taken_up_after_the_plan_is_not_removed(study):
    found = find_garbage()
    with held_by_another_process(lock_of(study, CONFIGS[2])):
        done = remove_garbage(found).set_index("path")
    assert "another process" in done.loc[f"runs/{CONFIGS[2].id}", "failed"]
    assert study.get(CONFIGS[2]) is not None and study.get(CONFIGS[3]) is None


def test_links_are_not_followed_and_not_removed(study, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(study.root / "splits", outside / "splits")
    shutil.move(study.run_folder(CONFIGS[2]), outside / "run")
    (study.root / "splits").symlink_to(outside / "splits")
    study.run_folder(CONFIGS[2]).symlink_to(outside / "run")
    (study.run_folder(CONFIGS[3]) / "model.safetensors").symlink_to(outside / "run" / "config.json")
    (study.root / "tables" / f"small-{'f' * 16}.csv").symlink_to(outside / "run" / "history.csv")
    before = content(outside)
    found = find_garbage()
    remove_garbage(found)
    assert content(outside) == before
    left = paths(found.left)
    assert all("a link" in left[name] for name in ("splits", f"runs/{CONFIGS[2].id}", f"tables/small-{'f' * 16}.csv"))
    assert "model.safetensors" in left[f"runs/{CONFIGS[3].id}"]
    assert study.run_folder(CONFIGS[2]).is_symlink() and study.run_folder(CONFIGS[3]).is_dir()


def test_a_folder_that_becomes_a_link_after_the_plan_is_not_followed(study, tmp_path):
    found = find_garbage()
    shutil.move(study.run_folder(CONFIGS[2]), tmp_path / "moved")
    study.run_folder(CONFIGS[2]).symlink_to(tmp_path / "moved")
    done = remove_garbage(found).set_index("path")
    assert "link" in done.loc[f"runs/{CONFIGS[2].id}", "failed"]
    assert study.run_folder(CONFIGS[2]).is_symlink()
    assert {path.name for path in (tmp_path / "moved").iterdir()} == WHOLE


def test_what_mpox_did_not_write_is_left_and_named(study, invoke):
    mine = ["notes.txt", "runs/thoughts.md", f"runs/{CONFIGS[2].id}/notes.txt", f"audits/{AUDITS['tiny+other']}/drawing.png"]
    mine += ["tables/mine.csv", "splits/README.md", "runs/.hidden/x"]
    for name in mine:
        (study.root / name).parent.mkdir(exist_ok=True)
        (study.root / name).write_text("mine")
    said = invoke("gc", "--yes")
    assert said.exit_code == 0
    for name in mine:
        assert (study.root / name).read_text() == "mine"
        named = name if len(Path(name).parts) < 3 else str(Path(name).parent)
        assert f"left alone: {named}" in said.output
    assert study.get(CONFIGS[2]) is not None and (study.root / "splits" / f"{CONFIGS[2].split}.csv").is_file()


def test_damaged_runs_are_named_and_go_only_if_no_result_refers_to_them(study):
    for config in (CONFIGS[1], CONFIGS[2]):
        (study.run_folder(config) / "predictions.csv").unlink()
    found = find_garbage()
    assert "damaged" in paths(found.remove)[f"runs/{CONFIGS[2].id}"]
    assert "damaged" in paths(found.left)[f"runs/{CONFIGS[1].id}"]
    assert f"runs/{CONFIGS[1].id}" not in set(found.remove["path"])
    (study.run_folder(CONFIGS[1]) / "config.json").write_text("{")
    found = find_garbage()  # which split it was trained on cannot be told any more
    assert "not known" in paths(found.left)["splits"]
    assert not found.remove["path"].str.startswith("splits/").any()


def test_a_removal_that_is_stopped_leaves_runs_whole_or_none_and_the_next_one_ends_it(study, monkeypatch):
    really, calls = shutil.rmtree, []

    def stop(path, *args, **kwargs):
        calls.append(path)
        if len(calls) == 2:
            (Path(path) / "predictions.csv").unlink()
            raise KeyboardInterrupt
        really(path, *args, **kwargs)

    monkeypatch.setattr(garbage.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        remove_garbage(find_garbage())
    for folder in (study.root / "runs").iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            assert {path.name for path in folder.iterdir()} == WHOLE
    assert list((study.root / "runs").glob(".*.removed"))
    monkeypatch.undo()
    monkeypatch.setenv("MPOX_PROJECT", str(study.root.parent / "project"))
    monkeypatch.setenv("MPOX_RUN_STORE", str(study.root))
    remove_garbage(find_garbage())
    assert sorted(os.listdir(study.root / "runs")) == sorted(config.id for config in CONFIGS[:2])


def test_only_temporary_files_that_nobody_can_be_writing_go(study):
    for name, age in (("old", 2 * garbage.STALE), ("new", 0)):
        path = study.root / "splits" / f".{name}.csv.abcd_123"
        path.write_text("half")
        os.utime(path, (time.time() - age, time.time() - age))
    found = find_garbage()
    assert "splits/.old.csv.abcd_123" in set(found.remove["path"])
    assert "may still be written" in paths(found.left)["splits/.new.csv.abcd_123"]


def test_without_a_terminal_it_needs_yes_and_a_dry_run_names_everything(study, invoke):
    before = content(study.root)
    failed = invoke("gc")
    assert failed.exit_code == 1 and "say --yes" in failed.stderr and content(study.root) == before
    said = invoke("gc", "--dry-run")
    found = find_garbage()
    assert said.exit_code == 0 and content(study.root) == before
    assert all(path in said.output for path in found.remove["path"])
    said = invoke("gc", "--yes")
    assert said.exit_code == 0 and f"Removed {len(found.remove)} entries" in said.output
    assert len(content(study.root)) < len(before)
    assert "Nothing is to be removed." in invoke("gc", "--yes").output


def test_a_terminal_is_asked_and_only_yes_removes(study):
    before = content(study.root)
    for answer in ("n", "y"):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "mpox.cli", "runs", "gc"]
        process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        os.write(ours, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=120)
        os.close(theirs)
        os.close(ours)
        assert "Remove " in said and "[y/N]" in said
        assert (content(study.root) == before) == (answer == "n"), said
        assert process.returncode == (1 if answer == "n" else 0)


def test_what_cannot_be_removed_is_named_and_the_rest_goes(study, invoke, monkeypatch):
    really = Path.rename

    def refuse(path, target):
        if path.name == CONFIGS[2].id:
            raise PermissionError(13, "Permission denied")
        return really(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    failed = invoke("gc", "--yes")
    assert failed.exit_code == 1 and f"runs/{CONFIGS[2].id} (Permission denied)" in failed.stderr
    assert study.get(CONFIGS[2]) is not None and study.get(CONFIGS[3]) is None


def test_the_recorded_study_is_not_for_gc(invoke):
    failed = invoke("gc", "--store", "recorded", "--yes")
    assert failed.exit_code == 1 and "mpox record" in failed.stderr


def test_a_store_that_cannot_be_read_is_one_sentence(study, invoke, monkeypatch):
    really = os.scandir

    def refuse(path):
        if str(path).endswith(CONFIGS[2].id):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for command in ("gc", "list"):
        failed = invoke(command)
        assert failed.exit_code == 1 and "cannot be read (Permission denied)" in failed.stderr
