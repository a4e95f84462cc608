"""A frozen folder takes the place of data, weights and network: the same runs come of it, and a damaged one is refused."""

import errno
import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner

from mpox import cross_validate
from mpox._core import MpoxError, WeightsMissing
from mpox.book.freeze import asked_for, freeze
from mpox.book.run import run_notebooks
from mpox.cli import main
from mpox.data.frozen import find_frozen
from mpox.data.phantom import PhantomSpec, generate
from mpox.models.backbones import PYPI_PACKAGES, find_weights, load_pretrained, weights_origin
from mpox.models.config import ModelConfig, Training
from mpox.runs.store import RunStore, read_run

LITE0 = "tf_efficientnet_lite0"
PROBE = ModelConfig(backbone=LITE0, image_size=64)
TUNED = PROBE.with_(regime="fine_tune", training=Training(epochs=1, frozen_stages=5, head_steps=2, batch_size=8))


def random_weights(folder: Path, backbone: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    torch.save(timm.create_model(backbone, pretrained=False).state_dict(), folder / f"{backbone}.pth")


@pytest.fixture(scope="module")
def laptop(tiny_folder, tmp_path_factory):
    """A machine with two data sets in a data root, its store, and the folder that is frozen there."""
    root = tmp_path_factory.mktemp("laptop")
    shutil.copytree(tiny_folder, root / "data/tiny")
    shutil.copytree(tiny_folder, root / "data/other")
    for number, picture in enumerate(sorted((root / "data/other").glob("*/*.png"))[::3]):
        if number % 2:
            picture.unlink()
    (root / "data/tiny/Normal/broken.png").write_bytes(b"no picture")
    (root / "data/tiny/patients.csv").write_text("file,patient_id\n" + "Normal/00.png,A\nNormal/01.png,A\nNormal/broken.png,B\n")
    store, said = RunStore(root / "store"), []
    asked = {"DATASETS": ["tiny", str(root / "data/other")]}
    freeze(root / "frozen", "quick", overrides=asked, data_dir=root / "data", store=store, say=said.append)
    assert "44 images of 2 data sets and the weights of 3 backbones" in said[0] and "tf_efficientnet_lite3" in said[1]
    return root, store


@pytest.fixture
def node(laptop, tmp_path, monkeypatch):
    """A machine that has nothing but a copy of the frozen folder: an empty cache, no other images, no weights elsewhere."""
    shutil.copytree(laptop[0] / "frozen", tmp_path / "node/study")
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "node/cache"))
    monkeypatch.setenv("MPOX_DATA", str(tmp_path / "node/study"))
    monkeypatch.setattr("mpox.models.backbones.PYPI_PACKAGES", {})
    return RunStore(tmp_path / "node/store")


@pytest.mark.slow
def test_runs_from_the_frozen_folder_are_those_from_the_images(laptop, node):
    root, store = laptop
    data = node.dataset("/no/such/folder/tiny")
    there = [cross_validate(node, data, "source", model, n_folds=2) for model in (PROBE, TUNED)]
    groups = node.audit(["tiny", "other"]).groups
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPOX_DATA", str(root / "data"))
        patch.setenv("MPOX_CACHE", str(root / "cache"))
        patch.setattr("mpox.models.backbones.PYPI_PACKAGES", PYPI_PACKAGES)
        original = store.dataset("tiny")
        here = [cross_validate(store, original, "source", model, n_folds=2) for model in (PROBE, TUNED)]
        assert groups.equals(store.audit(["tiny", "other"]).groups)
    manifests = (each.manifest.drop(columns="path") for each in (data, original))
    for ours, theirs in [*zip(there, here, strict=True), tuple(manifests)]:
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert node.used_audits.items() <= store.used_audits.items()
    assert data.has_pictures and data.audit.rejected["image_id"].tolist() == ["Normal/broken.png"]
    # a store that was begun with the images is gone on with from the folder, and is asked about the origin of its weights
    pd.testing.assert_frame_equal(cross_validate(store, data, "source", PROBE, n_folds=2), here[0], check_exact=True)


def test_frozen_weights_come_first_and_keep_their_origin(node, tmp_path, monkeypatch):
    random_weights(tmp_path / "weights", LITE0)
    monkeypatch.setenv("MPOX_WEIGHTS", str(tmp_path / "weights"))
    frozen = load_pretrained(LITE0)
    assert find_weights(LITE0).is_relative_to(os.environ["MPOX_DATA"]) and frozen.origin == weights_origin(LITE0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsMissing, match=f"efficientnet_b0.*study are those of {LITE0}"):
        load_pretrained("efficientnet_b0")
    monkeypatch.undo()
    ours = load_pretrained(LITE0)
    assert ours.origin == frozen.origin and all(torch.equal(ours.state[name], value) for name, value in frozen.state.items())


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def edit(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("tiny/Normal/02.png", flip, "tiny/Normal/02.png .wrong checksum.*freeze again"),
        (f"weights/{LITE0}.pth", Path.unlink, f"weights/{LITE0}.pth .No such file or directory.*freeze again"),
        ("frozen.json", lambda path: os.truncate(path, 100), "damaged or incomplete: frozen.json"),
        ("frozen.json", edit(holiday=1), "damaged or incomplete"),
        ("frozen.json", edit(format_version=2), "format 2, this mpox reads 1: update mpox"),
        ("tiny/Normal/new.png", lambda path: shutil.copy(path.with_name("03.png"), path), "'tiny' is not, image by image"),
    ],
)
def test_a_folder_that_is_not_in_order_is_refused(node, file, change, said):
    change(Path(os.environ["MPOX_DATA"]) / file)
    with pytest.raises(MpoxError, match=said):
        node.dataset("tiny")


def test_other_decisions_about_pairs_are_not_mixed_with_the_frozen_audit(node, tmp_path, monkeypatch):
    decisions = tmp_path / "overrides.csv"
    decisions.write_text(
        "dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\ntiny,Normal/00.png,tiny,Normal/01.png,confirm,seen\n"
    )
    monkeypatch.setenv("MPOX_OVERRIDES", str(decisions))
    with pytest.raises(MpoxError, match="other decisions about pairs.*MPOX_OVERRIDES"):
        node.dataset("tiny")


@pytest.mark.slow
def test_nothing_half_written_stays(laptop, tmp_path, monkeypatch):
    root, store = laptop
    ball = generate(tmp_path / "ball", PhantomSpec(n_patients=8, size=64, copies=2), jobs=1)
    full, small = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), shutil.disk_usage("/")._replace(free=1)
    for names, target, effect, said in [
        (["tiny"], "pathlib.Path.write_bytes", Mock(side_effect=full), "cannot be written .No space left on device"),
        (["tiny"], "shutil.disk_usage", Mock(return_value=small), "MB are free: free space"),
        ([str(ball)], "shutil.disk_usage", shutil.disk_usage, "is a phantom, and can be drawn"),
        (["tinny"], "shutil.disk_usage", shutil.disk_usage, "'tinny' is neither a registered data set"),
    ]:
        with monkeypatch.context() as patch, pytest.raises(MpoxError, match=said):
            patch.setattr(target, effect)
            freeze(tmp_path / "new", "quick", overrides={"DATASETS": names}, data_dir=root / "data", store=store)
    assert [path.name for path in tmp_path.iterdir()] == ["ball"]


def test_the_command_line(laptop, tmp_path):
    def invoke(*words):
        return CliRunner().invoke(main, ["data", "freeze", *map(str, words)])

    words = ("-p", "DATASETS", "[tiny]", "--data-dir", laptop[0] / "data", "--out", tmp_path / "new")
    done = invoke("--profile", "quick", *words)
    assert done.exit_code == 0 and "contains images of patients: do not publish it." in done.output
    assert (tmp_path / "new/.gitignore").read_text() == "*\n"
    assert find_frozen(tmp_path / "new").datasets.keys() == {"tiny"}
    for profile, out, said in [("quick", "new", "exists: remove it"), ("recorded", "other", "needs no images")]:
        done = invoke("--profile", profile, *words[:6], tmp_path / out)
        assert done.exit_code == 1 and said in done.stderr and done.stderr.startswith("mpox: ")
    done = invoke("--profile", "quick", *words[:6], laptop[0] / "data/tiny/frozen")
    assert done.exit_code == 1 and "lies in the folder of the data set tiny" in done.stderr


def test_what_a_profile_asks_for_is_found_in_its_values_and_in_the_chapters():
    datasets, backbones = asked_for("gpu")
    assert datasets == ["msid", "msld-v1"]
    assert {f"tf_efficientnet_b{number}.aa_in1k" for number in range(8)} | {"efficientnet_b0", "resnet50"} <= set(backbones)
    assert asked_for("quick")[0] == []


TINY = {
    "DATASETS": ["clinic", "elsewhere"], "N_FOLDS": 3, "IMAGE_SIZE": 96, "TRAINED_DATASETS": ["clinic"],
    "TRAINED_IMAGE_SIZE": 64, "BACKBONES": [LITE0, "tf_efficientnet_lite1"], "OTHER_BACKBONES": ["lcnet_050"],
    "IMAGE_SIZES": [64], "TRAINING": {"epochs": 1, "frozen_stages": 3, "head_steps": 20}, "SCRATCH_TRAINING": {"epochs": 1},
    "TAIL_TRAINING": {"epochs": 1, "frozen_stages": 6, "views": 0},
    "REPEATS": {"linear_probe": 1, "fine_tune": 1}, "BASELINES": ["colour_histogram", "hog", "lbp"],
    "EXPLAINERS": ["grad_cam"], "N_EXPLAINED": 4, "BLANKED": [], "CORRUPTIONS": ["blur"], "STRENGTHS": [3], "SIMULATIONS": 20,
    "STUDIES": 2, "DRAWS": 2,
    "SEEDED": ["clinic"], "EXTERNAL": [["clinic", "elsewhere"], ["elsewhere", "clinic"]], "MIXED": [["clinic", "elsewhere"]],
    "STAGED": ["clinic"], "FACTORIAL_SIZES": [64],
    "LABEL_DEALS": 20, "FRACTIONS": [0.6, 1], "CURVE_REPEATS": 1, "TIMED_ROUNDS": 1,
}  # fmt: skip

#: Run at the start of each kernel: no network but this machine's own, and no weights in packages.
ALONE = """
import socket, sys
sys.modules |= {{name: None for name in {packages}}}
def alone(original, host_of):
    def guarded(*given, **named):
        host = host_of(given)
        if isinstance(host, str) and host not in ("localhost", "127.0.0.1"):
            open({log!r}, "a").write(host + chr(10))
            raise OSError("no network")
        return original(*given, **named)
    return guarded
socket.getaddrinfo = alone(socket.getaddrinfo, lambda given: given[0])
socket.socket.connect = alone(socket.socket.connect, lambda given: given[1][0] if isinstance(given[1], tuple) else None)
"""


@pytest.mark.slow
def test_every_chapter_runs_from_a_frozen_folder_alone(tmp_path, monkeypatch):
    data, weights, log = tmp_path / "data", tmp_path / "weights", tmp_path / "network.log"
    for name, seed, patients in (("clinic", 1, 32), ("elsewhere", 2, 30)):  # without their truths they count as photographs
        images = generate(tmp_path / f"drawn-{name}", PhantomSpec(n_patients=patients, size=96, seed=seed, copies=4))
        shutil.move(images, data / name)
        if name == "clinic":  # two classes, as in MSLD v1
            (data / name / "Normal").rename(data / name / "Others")
            for path in [*(data / name).glob("Chickenpox/*"), *(data / name).glob("Measles/*")]:
                path.rename(data / name / "Others" / path.name)
            for emptied in ("Chickenpox", "Measles"):
                (data / name / emptied).rmdir()
        files = [path.relative_to(data / name).as_posix() for path in sorted((data / name).glob("*/*.png"))]
        rows = [f"{file},{Path(file).stem.split('_')[0]}" for file in files]
        (data / name / "patients.csv").write_text("image_id,patient_id\n" + "\n".join(rows))
    for backbone in ("efficientnet_b0", "lcnet_050", "lcnet_035"):
        random_weights(weights, backbone)
    with monkeypatch.context() as patch:
        patch.setenv("MPOX_WEIGHTS", str(weights))
        patch.setenv("MPOX_DATA", str(data))
        freeze(tmp_path / "frozen", "quick", overrides=TINY, store=RunStore(tmp_path / "here"))
    node = tmp_path / "node"
    shutil.copytree(tmp_path / "frozen", node / "study")
    for folder in (data, weights, tmp_path / "frozen"):
        folder.rename(f"{folder}-elsewhere")
    (node / "sitecustomize.py").write_text(ALONE.format(packages=[name for name, _ in PYPI_PACKAGES.values()], log=str(log)))
    with monkeypatch.context() as patch:
        patch.setenv("MPOX_CACHE", str(node / "cache"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(node), os.environ.get("PYTHONPATH", "")]))
        asked = TINY | {"RUN_STORE": str(node / "store")}
        run = run_notebooks(profile="quick", overrides=asked, out=node / "run", data_dir=node / "study", echo=print)
    assert run.ok, run.failure
    assert not log.exists(), log.read_text()
    shown = [output for path in sorted((node / "run").glob("*.ipynb")) for cell in nbformat.read(path, 4).cells
             for output in cell.get("outputs", [])]  # fmt: skip
    assert "not on this machine" not in json.dumps(shown) and "not shown here" not in json.dumps(shown)

    monkeypatch.setenv("MPOX_DATA", f"{data}-elsewhere")
    monkeypatch.setenv("MPOX_WEIGHTS", f"{weights}-elsewhere")
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    here = RunStore(tmp_path / "here")
    clinic = here.datasets(TINY["DATASETS"])[0]  # with the groups of the study's sets together
    runs = {path.name: read_run(path) for path in (node / "store/runs").iterdir() if not path.name.startswith(".")}
    models = {result.config.model.regime: result.config.model for result in runs.values()
              if result.config.protocol == "source" and result.config.dataset == "clinic"}  # fmt: skip
    assert {"linear_probe", "fine_tune"} <= models.keys()
    for model in models.values():
        table = cross_validate(here, clinic, "source", model, n_folds=3)
        for run_id in table["run_id"].unique():
            pd.testing.assert_frame_equal(read_run(here.root / "runs" / run_id).predictions, runs[run_id].predictions)
