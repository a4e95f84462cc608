"""Every test has its own cache and store; nothing of the user's is read or written."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

BEFORE = dict(os.environ)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
USERS = ("MPOX_DATA", "MPOX_WEIGHTS", "MPOX_PROJECT", "MPOX_PROFILE", "MPOX_OVERRIDES")


#: Files of minutes, the longest first: where files are shared out among processes, none of these may come last.
LONG = ("test_site", "test_frozen", "test_notebooks", "test_real_data", "test_book")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory):
    """Cache and run store of the whole session in a temporary folder; the user's settings are out of the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPOX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MPOX_RUN_STORE", str(tmp_path_factory.mktemp("store")))
        for name in USERS:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts():
    """A process that a shell started in the background ignores Ctrl-C, and so would all that the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    """Figures live in one list for the whole process: what a test draws must not be met by the next one."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def draw(rng: np.random.Generator, *, spots: bool, size: int = 64) -> np.ndarray:
    """A noisy plain of some skin-like colour, with dark red spots or without."""
    picture = rng.normal(rng.uniform((150, 110, 90), (230, 190, 170)), 8, (size, size, 3))
    if spots:
        rows, columns = np.mgrid[:size, :size]
        for y, x in rng.integers(8, size - 8, (6, 2)):
            picture[(rows - y) ** 2 + (columns - x) ** 2 < 25] = (120, 30, 30)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A data set of one folder a class: 12 pictures of 64 x 64 pixels in each of `Monkeypox` (spots) and `Normal`."""
    root = tmp_path_factory.mktemp("tiny") / "tiny"
    rng = np.random.default_rng(5)
    for name in ("Monkeypox", "Normal"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            picture = Image.fromarray(draw(rng, spots=name == "Monkeypox"))
            picture.save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real pictures, where they are at hand."""
    folder = Path(BEFORE["MPOX_DATA"]).resolve() if BEFORE.get("MPOX_DATA") else SHARED
    if not (folder / "msid").is_dir():
        pytest.skip("the real pictures are not at hand: name their folder with MPOX_DATA to run this")
    return folder


@pytest.fixture(scope="session")
def users_environment() -> dict[str, str]:
    """The environment as it was before `own_environment`: with the user's cache and store, where trained runs may be already."""
    return dict(BEFORE)


@pytest.fixture(scope="session")
def use_study(tmp_path_factory) -> SimpleNamespace:
    """A small phantom and a cross-validated probe on it, in a store of their own: what is used after a study.

    `store`, `data`, `folder` (of the pictures), `model`, `predictions` (three source folds), `run_id` of fold 1, `svm_id`.
    """
    from mpox import ModelConfig, cross_validate, open_store
    from mpox.data.phantom import PhantomSpec, ensure_phantom

    folder = str(ensure_phantom(PhantomSpec(seed=4, n_patients=30, size=96, copies=4)))
    store = open_store(tmp_path_factory.mktemp("use"))
    data = store.dataset(folder)
    model = ModelConfig(backbone="tf_efficientnet_lite0", image_size=96)
    predictions = cross_validate(store, data, "source", model, n_folds=3)
    other = cross_validate(store, data, "source", model.with_(regime="svm"), n_folds=3)
    return SimpleNamespace(
        store=store,
        data=data,
        folder=folder,
        model=model,
        predictions=predictions,
        run_id=predictions.loc[predictions["fold"] == 1, "run_id"].iloc[0],
        svm_id=other["run_id"].iloc[0],
    )
