"""A run that is killed, or cannot write, loses nothing: it goes on from its last whole epoch and ends with the same bits."""

import ctypes
import errno
import fcntl
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpox._core import MpoxError
from mpox.models.config import ModelConfig, RunConfig
from mpox.runs.store import RunResult, RunStore

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import kills  # noqa: E402

CONFIG = RunConfig("tiny", "0" * 16, "source", "1" * 16, 0, 0, ModelConfig(image_size=64))
NO_MOUNT = 77


@pytest.fixture(scope="module")
def processes():
    """Processes that start in no time: forked from one that has imported torch."""
    return kills.server()


@pytest.fixture(scope="module")
def prepared(processes, tiny_folder, tmp_path_factory) -> tuple[Path, Path, Path]:
    """Pictures that are scanned and audited, a store without runs, and their cache."""
    folder = tmp_path_factory.mktemp("prepared")
    known = tiny_folder, folder / "store", Path(os.environ["MPOX_CACHE"])
    assert ended(processes, kills.prepare, *map(str, known)) == 0
    return known


def ended(processes, function, *arguments) -> int:
    """The exit code of a function in a process of its own."""
    process = processes.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def test_twenty_kills_at_random_moments_change_no_bit(prepared, tmp_path):
    found = kills.kill_again_and_again(*prepared, kills=20, epochs=2, folder=tmp_path)
    dealt, lives = found["kills"], found["lives"]
    assert len(dealt) == 20 and found["expected_epochs"] == 4
    assert lives["identical"].all(), dealt.to_string()
    assert not lives["left"].str.len().any(), lives.to_string()
    assert (lives["epochs"] - found["expected_epochs"]).between(0, lives["kills"]).all(), lives.to_string()
    assert dealt["phase"].nunique() >= 2 and dealt["states"].astype(str).nunique() >= 3, dealt.to_string()


# Every moment at which a run touches the disk: the network is tiny, the process is real, and so is the kill.


def tiny_network(backbone, head, n_classes, *, weights, seed):
    import torch

    from mpox.models.backbones import Classifier, make_head

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 8))
        return Classifier(trunk, make_head(head, 8, n_classes))


def watch_disk(act, at: int | None, log: Path) -> None:
    """Count what this process does to the disk; call `act` before the operation number `at`, and note all names."""
    done = []

    def watched(name, function, *arguments, **options):
        changes = {"open": lambda: arguments[1] & os.O_CREAT, "mkdir": lambda: not os.path.isdir(arguments[0])}
        if changes.get(name, lambda: True)():
            done.append(name)
            if len(done) - 1 == at:
                act(name, *arguments)
            log.write_text(" ".join(done))
        return function(*arguments, **options)

    for name in ("open", "fsync", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, functools.partial(watched, name, getattr(os, name)))


def die(name: str, *arguments) -> None:
    if name == "fsync" and fcntl.fcntl(arguments[0], fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)  # not all of it had reached the disk
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(name: str, *arguments) -> None:
    named = [] if name == "fsync" else [str(arguments[0])]  # of an open file no name is told
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)


def laboratory(pictures: str, base: str, cache: str, root: str) -> None:
    """Kill a run, or fill the disk, at every operation on the disk; run it again; write down what came of it."""
    import torch

    from mpox.models import training
    from mpox.protocols.splits import make_splits
    from mpox.runs.cross_validation import predict_splits

    os.environ["MPOX_CACHE"] = cache
    torch.set_num_threads(1)
    training.build_model = tiny_network
    model = ModelConfig(
        regime="scratch", backbone="tf_efficientnet_lite0", image_size=64, mirror=False,
        training={"epochs": 2, "patience": 2, "batch_size": 8, "augmentation": "none"},
    )  # fmt: skip
    data = RunStore(base).dataset(pictures)
    split = make_splits(data.manifest, "source", n_folds=2)
    split = split[split["fold"] == 0]
    epoch = training.Trainer._epoch

    def attempt(store: Path, act=None, at: int | None = None) -> tuple[int, str]:
        """Exit code (negative for a signal) of one process, and the operations it did or its error."""
        log, pid = Path(root, "log"), os.fork()
        if pid:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return status, log.read_text()
        code = 1
        try:
            watch_disk(act, at, log)

            def counted(self, number):
                row = epoch(self, number)
                with open(f"{store}.epochs", "a") as stream:
                    stream.write(f"{number}\n")
                return row

            training.Trainer._epoch = counted
            predict_splits(RunStore(store), data, "source", split, model).to_csv(f"{store}.csv", index=False)
            code = 0
        except MpoxError as error:
            log.write_text(str(error))
            code = 3
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    first = Path(root, "first")
    assert attempt(first)[0] == 0
    reference, names = Path(f"{first}.csv").read_bytes(), attempt(Path(root, "second"))[1].split()
    rows = []
    for act in (die, disk_full):
        for at, name in enumerate(names):
            if act is disk_full and name not in ("open", "fsync", "mkdir"):
                continue
            store = Path(root, f"{act.__name__}{at}")
            status, words = attempt(store, act, at)
            words = words if status == 3 else ""
            again, _ = attempt(store)
            result = Path(f"{store}.csv").read_bytes()
            files = sorted(p.name for p in (store / "runs").rglob("*") if p.is_file() and p.suffix != ".lock")
            epochs = len(Path(f"{store}.epochs").read_text().split())
            rows.append([act.__name__, at, name, status, words, again, result == reference, epochs, files])
    columns = ["act", "at", "name", "status", "words", "again", "identical", "epochs", "files"]
    Path(root, "rows.json").write_text(pd.DataFrame(rows, columns=columns).to_json(orient="records"))


def test_at_every_single_write_a_kill_or_a_full_disk_costs_an_epoch_at_most(processes, prepared, tmp_path):
    assert ended(processes, laboratory, *map(str, prepared), str(tmp_path)) == 0
    rows = pd.DataFrame(json.loads((tmp_path / "rows.json").read_text()))
    killed, full = (rows[rows["act"] == act] for act in ("die", "disk_full"))
    assert min(Counter(killed["name"])[name] for name in ("open", "fsync", "replace", "mkdir", "unlink")) >= 3
    assert (killed["status"] == -signal.SIGKILL).all(), killed.to_string()
    assert (full["status"] == 3).all(), full.to_string()
    sentence = r"The folder \S+ cannot be written \(No space left on device\): free space, or name another .* is kept\."
    assert full["words"].str.fullmatch(sentence).all(), full.to_string()
    assert (rows["again"] == 0).all() and rows["identical"].all(), rows.to_string()
    assert rows["epochs"].between(2, 3).all(), rows.to_string()
    own = ["config.json", "environment.json", "history.csv", "model.safetensors", "predictions.csv"]
    assert all(files == own for files in rows["files"]), rows.to_string()


# Two processes that ask for one run.


def asked(root: str, log: str, name: str, seconds: float) -> None:
    def compute(folder: Path) -> RunResult:
        with open(log, "a") as stream:
            stream.write(f"{name}\n")
        time.sleep(seconds)
        table = pd.DataFrame({"image_id": ["a"], "label": ["Mpox"], "p_Mpox": [1.0]})
        return RunResult(CONFIG, table, pd.DataFrame({"chosen": [True]}), {"seconds": 0.1, "by": name})

    Path(f"{log}.{name}").touch()
    RunStore(root).run(CONFIG, compute)


def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


def test_who_waits_takes_over_from_a_process_that_is_killed(processes, tmp_path):
    log = tmp_path / "log"
    first = processes.Process(target=asked, args=(str(tmp_path / "s"), str(log), "first", 100))
    second = processes.Process(target=asked, args=(str(tmp_path / "s"), str(log), "second", 0))
    first.start()
    until(log.exists)
    second.start()
    until(Path(f"{log}.second").exists)
    second.join(0.5)
    assert second.is_alive() and log.read_text() == "first\n"
    first.kill()
    second.join(30)
    assert second.exitcode == 0 and log.read_text() == "first\nsecond\n"
    assert RunStore(tmp_path / "s").get(CONFIG).environment["by"] == "second"


# A disk that is really full, a store that really cannot be written.


def tried(study: kills.Study) -> dict:
    """What comes of a study: its error, or nothing; and the states on the disk."""
    try:
        kills.work(study)
        error = ""
    except MpoxError as problem:
        error = str(problem)
    return {"error": error, "states": len(list(Path(study.store, "runs").glob(".*.partial/state.json")))}


def limited(study: kills.Study, size: int, answer: str) -> None:
    """A study while no file may be larger than `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    found = tried(study)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(answer).write_text(json.dumps(found))


def mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        os._exit(NO_MOUNT)


def own_mounts() -> None:
    """Let this process mount what nobody else sees: as root, or in a user namespace."""
    user, group, spaces = os.getuid(), os.getgid(), 0x00020000  # CLONE_NEWNS
    library = ctypes.CDLL(None)
    if user:
        spaces |= 0x10000000  # CLONE_NEWUSER
    if library.unshare(spaces):
        os._exit(NO_MOUNT)
    if user:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError:
            os._exit(NO_MOUNT)
    mount("--make-rprivate", "/")


def on_small_disk(study: kills.Study, base: str, answer: str) -> None:
    """A study on a disk that is full after the first state, then on a larger one, then on one that is read-only."""
    own_mounts()
    Path(study.store).mkdir()
    mount("-t", "tmpfs", "-o", "size=60m", "tmpfs", study.store)
    shutil.copytree(base, study.store, dirs_exist_ok=True)
    found = {"full": tried(study)}
    mount("-o", "remount,size=400m", study.store)
    found["larger"] = tried(study)
    mount("-o", "remount,ro", study.store)
    os.unlink(study.result)
    found["read"] = tried(study)
    found["other"] = tried(replace(study, folds=3))
    Path(answer).write_text(json.dumps(found))


@pytest.fixture
def study(prepared, tmp_path) -> kills.Study:
    pictures, _, cache = prepared
    (tmp_path / "marks").write_bytes(b"\0")
    paths = [str(tmp_path / name) for name in ("result.csv", "marks")]
    return kills.Study(str(pictures), str(tmp_path / "store"), str(cache), kills.tiny_model(2), 2, *paths)


@pytest.fixture(scope="module")
def undisturbed(processes, prepared, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared[1], folder / "store")
    (folder / "marks").write_bytes(b"\0")
    paths = [str(folder / name) for name in ("result.csv", "marks")]
    one = kills.Study(str(prepared[0]), str(folder / "store"), str(prepared[2]), kills.tiny_model(2), 2, *paths)
    assert ended(processes, kills.work, one) == 0
    return Path(one.result).read_bytes()


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(processes, prepared, study, undisturbed, tmp_path):
    answer = tmp_path / "answer"
    code = ended(processes, on_small_disk, study, str(prepared[1]), str(answer))
    if code == NO_MOUNT:
        pytest.skip("this machine lets its users mount nothing")
    assert code == 0
    found = json.loads(answer.read_text())
    assert "cannot be written (No space left on device): free space, or name another" in found["full"]["error"]
    assert found["full"]["states"] == 1  # that of the epoch before
    assert found["larger"] == {"error": "", "states": 0}
    assert found["read"] == {"error": "", "states": 0}
    assert "cannot be written (Read-only file system): make it writable, or name another" in found["other"]["error"]
    assert len(Path(f"{study.marks}.log").read_text().splitlines()) <= 5
    assert Path(study.result).read_bytes() == undisturbed


def test_a_limit_on_the_size_of_files_is_one_sentence(processes, prepared, study, undisturbed, tmp_path):
    answer = tmp_path / "answer"
    shutil.copytree(prepared[1], study.store)
    assert ended(processes, limited, study, 2**20, str(answer)) == 0
    found = json.loads(answer.read_text())
    assert "cannot be written (File too large): free space, or name another folder with RUN_STORE" in found["error"]
    assert not list(Path(study.store).rglob("*.tmp"))
    assert ended(processes, kills.work, study) == 0
    assert Path(study.result).read_bytes() == undisturbed


# A saved state that is damaged.


@pytest.fixture
def state(tmp_path):
    """A network and its optimizer after a step, saved; and what gives the like of them, without the step."""
    import torch

    from mpox.models import training

    def fresh(width: int = 3):
        torch.manual_seed(0)
        model = torch.nn.Linear(width, 2)
        return model, torch.optim.AdamW(model.parameters())

    model, optimizer = fresh()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    training.save(tmp_path, model, model.state_dict(), optimizer, [{"epoch": 0, "validation_loss": 1 / 3}])
    return training, fresh, model, optimizer


def test_a_saved_state_is_taken_up_exactly(state, tmp_path):
    checkpoint, fresh, model, optimizer = state
    other, theirs = fresh()
    best, history = checkpoint.load(tmp_path, other, theirs)
    assert history == [{"epoch": 0, "validation_loss": 1 / 3}]
    for name, value in model.state_dict().items():
        assert np.array_equal(value, other.state_dict()[name]) and np.array_equal(value, best[name])
    for index, moments in optimizer.state_dict()["state"].items():
        assert all(np.array_equal(value, theirs.state_dict()["state"][index][key]) for key, value in moments.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch1.safetensors", "state.json"]


def cut(folder: Path) -> None:
    file = folder / "epoch1.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def flip(folder: Path) -> None:
    file = folder / "epoch1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "is not what was written"),
        (flip, "is not what was written"),
        (lambda folder: (folder / "epoch1.safetensors").unlink(), "No such file"),
        (lambda folder: (folder / "state.json").write_text('{"file": "epo'), "Unterminated string"),
        (lambda folder: (folder / "state.json").write_text("{}"), "KeyError"),
        (lambda folder: (folder / "state.json").write_text("[]"), "TypeError"),
        (lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe\0"), "codec"),
    ],
    ids=["cut", "flip", "lost", "half", "empty", "list", "noise"],
)
def test_a_damaged_state_is_told_of_and_removed(state, tmp_path, capsys, damage, words):
    checkpoint, fresh, *_ = state
    damage(tmp_path)
    model, optimizer = fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert checkpoint.load(tmp_path, model, optimizer) is None
    said = capsys.readouterr().err
    assert str(tmp_path) in said and words in said and "starts over" in said
    assert list(tmp_path.iterdir()) == []
    assert all(np.array_equal(value, model.state_dict()[name]) for name, value in before.items())
    assert optimizer.state_dict()["state"] == {}


def test_a_state_of_another_network_is_not_taken_up(state, tmp_path, capsys):
    checkpoint, fresh, *_ = state
    assert checkpoint.load(tmp_path, *fresh(width=4)) is None
    assert "its tensors are another model's" in capsys.readouterr().err


def test_temporaries_of_the_dead_are_swept(tmp_path):
    from mpox._core import STALE, atomic_write

    old, young = tmp_path / ".a.csv.1.tmp", tmp_path / ".b.csv.2.tmp"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (time.time() - STALE - 60,) * 2)
    atomic_write(tmp_path / "c.csv", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "c.csv"]
