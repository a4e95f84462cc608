"""The benchmarks judge rightly, and run."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mpox._core import MpoxError
from mpox.data import phantom

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    """The modules of the folder, which is not a package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import audit
        import judging
        import measuring

        yield types.SimpleNamespace(audit=audit, judging=judging, measuring=measuring)
        for name in ("audit", "judging", "measuring"):
            sys.modules.pop(name)


def test_corner_error_is_a_distance_in_the_copy(benchmarks):
    planted = "0.5 0 10 0 0.5 20"
    assert benchmarks.judging.corner_error(planted, planted, 80, 60, turned=False) == pytest.approx(0)
    assert benchmarks.judging.corner_error("2 0 -20 0 2 -40", planted, 80, 60, turned=True) == pytest.approx(0)
    assert benchmarks.judging.corner_error("0.5 0 13 0 0.5 24", planted, 80, 60, turned=False) == pytest.approx(5)


def test_judging_tells_right_from_wrong_pairs_and_found_from_missed_copies(benchmarks):
    truths = pd.DataFrame(
        {
            "image_id": ["a", "a2", "b", "b2", "c", "d"],
            "copy_of": pd.array([None, "a", None, "b", None, None], dtype="string"),
            "copy_kind": pd.array([None, "crop", None, "grey", None, None], dtype="string"),
            "copy_transform": pd.array([None, "1 0 5 0 1 0", None, "1 0 0 0 1 0", None, None], dtype="string"),
        }
    )
    images = truths[["image_id"]].assign(width=80, height=60, group_id=["a", "a", "b", "b2", "c", "c"])
    pairs = [("a", "a2", 0.9, "1 0 8 0 1 4"), ("a2", "b", 0.6, "1 0 0 0 1 0"), ("c", "d", 0.7, "1 0 0 0 1 0")]
    found = pd.DataFrame(pairs, columns=["image_id_a", "image_id_b", "score", "transform"])
    weak = pd.DataFrame([("b", "b2")], columns=["image_id_a", "image_id_b"])
    audit = types.SimpleNamespace(images=images, pairs=found, weak=weak)
    table, lists = benchmarks.judging.judge(audit, truths)
    table = table.set_index("kind")
    assert table["found"].to_dict() == {"crop": 1, "grey": 0, "(no copy)": 0, "all": 1}
    assert table.loc["all", ["recall", "in group", "in doubt"]].tolist() == [0.5, 0.5, 1]
    assert table["precision"].dropna().to_dict() == {"crop": 0.5, "(no copy)": 0.0, "all": pytest.approx(1 / 3)}
    assert table.at["crop", "error px"] == pytest.approx(5) and np.isnan(table.at["grey", "error px"])
    assert [row["image_id"] for row in lists["missed"]] == ["b2"]
    assert {(row["image_id_a"], row["image_id_b"]) for row in lists["wrong"]} == {("a2", "b"), ("c", "d")}


def test_exponent_of_a_power_law(benchmarks):
    fitted, slopes = benchmarks.measuring.exponent([10, 100, 1000], [3 * n**1.5 for n in (10, 100, 1000)])
    assert fitted == pytest.approx(1.5) and slopes == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("n", [50, 400])
def test_phantoms_of_growth_have_about_so_many_pictures(benchmarks, n):
    spec = benchmarks.audit.phantom_of(n, size=64, seed=3)
    photographs = sum(phantom.person(spec, index).n_pictures for index in range(spec.n_patients))
    assert n - 5 < photographs + spec.copies <= n


def test_memory_of_a_process_and_its_children(benchmarks, tmp_path):
    if not Path("/proc/self/smaps_rollup").is_file():
        pytest.skip("no /proc on this system")
    script = tmp_path / "phase.py"
    child = "import time; x = bytearray(60 * 2**20); time.sleep(1.5)"
    script.write_text(
        "import os, subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)\n"
        "open(sys.argv[-1], 'w').write('{\"cache\": \"' + os.environ['MPOX_CACHE'] + '\"}')\n"
    )
    result = benchmarks.measuring.run_phase(script, [], cache=tmp_path / "own")
    assert result["cache"] == str(tmp_path / "own") and 60 < result["peak_mib"] < 200
    script.write_text("raise SystemExit(3)")
    with pytest.raises(MpoxError, match="exit code 3"):
        benchmarks.measuring.run_phase(script, ["x"], cache=tmp_path)


def test_commands_print_tables_and_write_files(benchmarks, tmp_path):
    run = lambda *arguments: CliRunner().invoke(benchmarks.audit.main, [str(a) for a in arguments])  # noqa: E731
    done = run("accuracy", "--per-kind", 2, "--kinds", "crop,mirror", "--size", 96, "--jobs", 1, "--out", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "a.json").read_text())
    assert [row["kind"] for row in written["table"]][:2] == ["crop", "mirror"] and written["machine"]["opencv"]
    assert "| crop | 2 |" in done.output and "below the aim" in done.output
    images = phantom.ensure_phantom(benchmarks.audit.phantom_of(20, size=96, seed=0))
    done = run("speed", images, "--sample", 10, "--jobs", 1, "--out", tmp_path / "s.csv")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["what"].tolist() == ["audit, cold cache", "audit, warm cache", "all pairs, scaled up"]
    assert table.loc[0, "comparisons"] > table.loc[1, "comparisons"] == 0 and "10 random pairs" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["growth", "100"], "two sizes at least"),
        (["accuracy", "--kinds", "blur"], "name each once"),
        (["growth", "--out", "table.txt"], ".csv"),
    ],
)
def test_wrong_requests_are_one_sentence(benchmarks, arguments, words):
    done = CliRunner().invoke(benchmarks.audit.main, arguments)
    assert done.exit_code != 0 and words in done.output and "Traceback" not in done.output


def test_costs_are_paired_by_fold(benchmarks, tmp_path):
    """Whatever the runs are called, the losses come in the order of the folds."""
    import training
    from test_store import CONFIG

    from mpox.runs.store import RunResult, _write_run

    store = types.SimpleNamespace(root=tmp_path)
    rows, split = [], []
    for fold, (run_id, loss) in enumerate({"zz": 0.1, "aa": 0.2, "mm": 0.3}.items()):
        history = pd.DataFrame({"validation_loss": [loss + 1, loss], "train_seconds": [1.0, 2.0]})
        folder = tmp_path / "runs" / run_id
        folder.mkdir(parents=True)
        _write_run(folder, RunResult(CONFIG, pd.DataFrame({"image_id": ["a"], "label": ["b"]}), history, {}))
        rows.append((run_id, 0, fold))
        split += [(0, fold, "train", 1)] * (fold + 1) + [(0, fold, "train", 0), (0, fold, "test", -1)]
    predictions = pd.DataFrame(rows, columns=["run_id", "repeat", "fold"])
    cost = training._cost(store, predictions, pd.DataFrame(split, columns=["repeat", "fold", "role", "inner_fold"]))
    assert cost == {"train_images": 2 * (1 + 2 + 3), "train_s": 9.0, "validation_loss": [0.1, 0.2, 0.3]}
