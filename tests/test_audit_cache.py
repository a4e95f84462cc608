"""A full disk and a cache that cannot be used: one sentence, nothing half-written, and the next run is as good as the first."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mpox._core import MpoxError
from mpox.audit.features import ensure_features, read_features
from mpox.audit.pairs import VerdictCache
from mpox.audit.quality import measured
from mpox.audit.retrieval import _kept, candidates, codebook
from mpox.data.pictures import pixel_hash

# The steps of an audit one after the other, each first where no file may grow beyond 64 bytes, and then without that limit.
FULL = """
import resource, signal, sys
from pathlib import Path

import numpy as np

from mpox.audit import features, pairs, retrieval
from mpox.audit.quality import image_quality
from mpox._core import MpoxError
from mpox.data.manifest import scan

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache, pictures = map(Path, sys.argv[1:])
noise = np.random.default_rng(0).standard_normal
retrieval._learn = lambda size: retrieval.Codebook(noise((2, size, 64), np.float32), noise((128, 64), np.float32))
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
made = {}

def manifest():
    made["manifest"] = scan(pictures, jobs=1)

def keys():
    return sorted(made["manifest"]["pixel_sha256"])

def verify():
    pairs.verify(retrieval.candidates(keys(), progress=False), jobs=1, progress=False)

steps = {
    "scan": manifest,
    "features": lambda: features.ensure_features(made["manifest"], jobs=1, progress=False),
    "codebook": lambda: retrieval.codebook(256),
    "candidates": lambda: retrieval.candidates(keys(), jobs=1, progress=False),
    "verdicts": verify,
    "quality": lambda: image_quality(made["manifest"], jobs=1, progress=False),
}
for name, step in steps.items():
    before = sorted(path for path in cache.rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, unlimited[1]))
    try:
        step()
        print(name, "NO ERROR")
    except MpoxError as error:
        print(name, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = {path.name for path in cache.rglob("*") if path.is_file() and path not in before and path.stat().st_size}
    print(name, "left", sorted(left))
    step()
    print(name, "done")
"""


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures" / "Normal"
    folder.mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder.parent


@pytest.fixture
def images(pictures) -> pd.DataFrame:
    rows = [(pixel_hash(Image.open(path)), str(path)) for path in sorted(pictures.rglob("*.png"))]
    return pd.DataFrame(rows, columns=["pixel_sha256", "path"]).assign(
        sha256=[key for key, _ in rows], source="three", image_id=[path for _, path in rows], label="Normal"
    )


def _nothing(path: str) -> dict:
    return {"number": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_named_at_every_step_and_leaves_nothing_half_written(tmp_path, pictures):
    cache = tmp_path / "cache"
    script = tmp_path / "full.py"
    script.write_text(FULL)
    done = subprocess.run(
        [sys.executable, script, cache, pictures], env=os.environ | {"MPOX_CACHE": str(cache)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for number, name in enumerate(("scan", "features", "codebook", "candidates", "verdicts", "quality")):
        problem, left, after = said[3 * number : 3 * number + 3]
        assert problem.startswith(f"{name} The ") and "cannot be" in problem and "set MPOX_CACHE" in problem, problem
        assert left == f"{name} left []" and after == f"{name} done"


@pytest.mark.parametrize("step", ["features", "codebook", "verdicts", "measured"])
def test_a_cache_that_cannot_be_is_named(step, images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "file" / "cache"))
    steps = {
        "features": lambda: ensure_features(images, jobs=1, progress=False),
        "codebook": lambda: codebook.__wrapped__(64),
        "verdicts": VerdictCache,
        "measured": lambda: measured(images, _nothing, "nothing-1", jobs=1, progress=False),
    }
    with pytest.raises(MpoxError, match=r"cannot be .*\(.+\).*set MPOX_CACHE"):
        steps[step]()
    assert (tmp_path / "file").read_text() == "no folder"


def test_what_cannot_be_read_is_named_and_not_taken_for_damaged(images, tmp_path, monkeypatch):
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    ensure_features(images, jobs=1, progress=False)
    key = images["pixel_sha256"][0]
    kept = next((tmp_path / "cache").rglob(f"{key}.npz"))
    kept.unlink()
    kept.mkdir()
    with pytest.raises(MpoxError, match="cannot be used.*set MPOX_CACHE"):
        read_features(key)
    assert kept.is_dir()
    path = VerdictCache().path
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(MpoxError, match=f"{path.name} cannot be used .*remove the file"):
        VerdictCache()


def test_candidates_that_lack_a_picture_are_searched_anew(images):
    ensure_features(images, jobs=1, progress=False)
    keys = sorted(images["pixel_sha256"])
    whole = candidates(keys, jobs=1, progress=False)
    text = _kept(keys).read_text()
    _kept(keys).write_text("".join(line + "\n" for line in text.splitlines() if keys[2] not in line))
    pd.testing.assert_frame_equal(candidates(keys, jobs=1, progress=False), whole)
    assert _kept(keys).read_text() == text
