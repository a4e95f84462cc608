"""The model in the page: that it is the recorded one, says in a browser what it says here, and sends nothing."""

import base64
import gzip
import hashlib
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import sitechecks
from PIL import Image

from mpox import ModelConfig, MpoxError
from mpox._core import project_root
from mpox.book import page_model
from mpox.book.page_model import DIGESTS, FOLDER, POLICY, answer, examples, page_html, write_scripts
from mpox.data.manifest import build_manifest
from mpox.runs.export import asking_features
from mpox.runs.predict import read_square
from mpox.runs.recorded import RecordedStore
from mpox.stats.calibration import apply_temperature
from mpox.studies.page_model import PageModel, read_page_models, write_page_models
from mpox.studies.unfamiliar import picture_features

VENDORED = project_root() / "book" / FOLDER
FINDINGS = {
    f"use_{name}_{side}_at_95": "90 of 100 (80 to 95)" for name in ("msld", "msid") for side in ("sensitivity", "specificity")
}
#: What rounding the weights, and another decoder, may change a probability by.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def models() -> list[PageModel]:
    return read_page_models(project_root() / "results")


@pytest.fixture(scope="module")
def page(models, tmp_path_factory):
    """A folder with the page by itself, and its backbone."""
    folder = tmp_path_factory.mktemp("site")
    backbone, size = write_scripts(VENDORED, models, folder / "_static" / FOLDER)
    (folder / "book").mkdir()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    html = f"<!doctype html><html><head>{policy}</head><body>{page_html(models, backbone, size, FINDINGS)}</body></html>"
    (folder / "book/try_it.html").write_text(html, encoding="utf-8")
    return folder, backbone


@pytest.fixture(scope="module")
def real(request) -> list[Path]:
    """A real image of either format, where they are here."""
    try:
        folder = request.getfixturevalue("data_dir")
    except pytest.skip.Exception:
        return []
    return [min(folder.rglob(f"*.{end}")) for end in ("jpg", "png")]


@pytest.fixture(scope="module")
def files(tmp_path_factory, real):
    """The phantom image as files of each kind that a decoder may get wrong, large enough to be shrunk; and real ones."""
    folder, image = tmp_path_factory.mktemp("files"), Image.fromarray(examples(500)["phantom, drawn as Mpox"]).resize((640, 500))
    exif, veiled = Image.Exif(), image.copy()
    exif[0x0112] = 6
    veiled.putalpha(Image.fromarray(np.where(np.arange(640) < 320, 90, 255).astype(np.uint8)[None].repeat(500, axis=0)))
    kinds = {
        "plain.png": (image, {}), "plain.jpg": (image, {"quality": 92}), "turned.jpg": (image, {"exif": exif, "quality": 92}),
        "veiled.png": (veiled, {}), "grey.jpg": (image.convert("L"), {"quality": 92}),
        "grey.png": (image.convert("L"), {}), "cmyk.jpg": (image.convert("CMYK"), {"quality": 92}),
    }  # fmt: skip
    for name, (one, options) in kinds.items():
        one.save(folder / name, **options)
    return [*sorted(folder.iterdir()), *real]


def test_the_runtime_is_the_published_one_with_its_licence(models, tmp_path):
    for name, digest in DIGESTS.items():
        content = (VENDORED / name).read_bytes()
        assert hashlib.sha256(gzip.decompress(content) if name.endswith(".gz") else content).hexdigest() == digest
    assert "MIT License" in (VENDORED / "LICENSE").read_text() and "1.30.0" in (VENDORED / "README.md").read_text()
    shutil.copytree(VENDORED, tmp_path / FOLDER)
    (tmp_path / FOLDER / "ort.wasm.min.js").write_text("changed")
    with pytest.raises(MpoxError, match=r"ort.wasm.min.js is not the file of ONNX Runtime Web"):
        write_scripts(tmp_path / FOLDER, models, tmp_path / "out")


def test_the_heads_are_those_of_recorded_runs(models, tmp_path):
    record = RecordedStore(project_root() / "results")
    for model, dataset in zip(models, ("msld-v1", "msid"), strict=True):
        facts = model.facts
        (config,) = [result.config for result in record.results() if result.config.id == facts["run_id"]]
        assert (config.dataset, config.protocol, config.repeat, config.fold) == (dataset, "source", 0, 0)
        assert config.model == ModelConfig(backbone=facts["backbone"], image_size=facts["image_size"])
        assert len(model.columns) == 1280 and 0 < facts["warned"]["own"] < facts["warned"]["no skin"] < 1
    write_page_models(tmp_path, models)
    again = read_page_models(tmp_path)
    assert all(one.facts == other.facts and one.columns.equals(other.columns) for one, other in zip(models, again, strict=True))
    with pytest.raises(MpoxError, match="has no model for the page: run `mpox record`"):
        read_page_models(tmp_path / "elsewhere")


@pytest.mark.slow
def test_the_heads_give_the_recorded_predictions(models, data_dir):
    """On the real test images of that fold: features from torch, the head of the page, the record's probabilities."""
    record = RecordedStore(project_root() / "results")
    for model in models:
        config = next(result.config for result in record.results() if result.config.id == model.facts["run_id"])
        said = record.get(config).predictions.head(16)
        manifest = build_manifest(model.facts["dataset"], data_dir=data_dir).set_index("image_id")
        pixels = [read_square(manifest.loc[name, "path"], model.facts["image_size"]) for name in said["image_id"]]
        vectors = picture_features(pixels, config.model)
        raw = [answer(PageModel(model.columns, model.facts | {"temperature": 1.0}), one)["probabilities"] for one in vectors]
        expected = said[[f"p_{label}" for label in model.facts["classes"]]].to_numpy()
        assert np.abs(np.array([list(one.values()) for one in raw]) - expected).max() < 1e-3


def test_rounded_weights_change_little(page, models):
    _, backbone = page
    pixels = np.stack(list(examples().values()))
    rounded = asking_features(backbone)(pixels)
    whole = picture_features(pixels, ModelConfig(backbone=models[0].facts["backbone"], image_size=224))
    for model in models:
        said = [[answer(model, one)["probabilities"]["Mpox"] for one in vectors] for vectors in (rounded, whole)]
        assert 0 < np.abs(np.subtract(*said)).max() < TOLERANCE
    assert len(backbone) < 7_000_000


def test_an_answer_is_a_set_or_none(models):
    model = models[1]
    n = len(model.facts["classes"])
    middle = model.columns.iloc[:, n : 2 * n].mean(axis=1).to_numpy()
    said, far = answer(model, middle), answer(model, middle + 5)
    assert not said["strange"] and far["strange"] and sum(said["probabilities"].values()) == pytest.approx(1)
    raw = np.array([list(answer(PageModel(model.columns, model.facts | {"temperature": 1.0}), middle)["probabilities"].values())])
    assert list(said["probabilities"].values()) == pytest.approx(apply_temperature(raw, model.facts["temperature"])[0].tolist())
    sure = PageModel(model.columns * 50, model.facts)
    assert len(answer(sure, middle)["set"]) <= len(said["set"]) <= n


@pytest.fixture(scope="module")
def chromium():
    with sitechecks.launched() as browser:
        yield browser


def until(tab, expression: str, seconds: float = 120):
    """What a script's expression gives, as soon as it gives something; the page's policy forbids to wait inside it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := tab.evaluate(expression):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{expression} in {seconds} s; the page says: {tab.inner_text('.mpox-page')[:400]}")


SAID = "document.querySelector('.mpox-page').dataset.said"
FAULT = "document.querySelector('[data-part=fault]').textContent"


@pytest.mark.slow
@pytest.mark.parametrize("from_disk", [True, False])
def test_a_browser_says_the_same_and_sends_nothing(chromium, page, models, files, tmp_path, monkeypatch, from_disk):
    folder, backbone = page
    served: list[str] = []
    give = sitechecks.SimpleHTTPRequestHandler.do_GET
    monkeypatch.setattr(
        sitechecks.SimpleHTTPRequestHandler, "do_GET", lambda handler: (served.append(handler.path), give(handler))[1]
    )
    assert (folder / "_static" / FOLDER / "LICENSE").read_text() == (VENDORED / "LICENSE").read_text()
    expected = {
        file.name: [answer(model, asking_features(backbone)(read_square(file, 224)[None])[0]) for model in models]
        for file in files
    }
    with sitechecks.served(folder) as base:
        tab = chromium.new_page(viewport={"width": 390, "height": 844})
        asked, faults = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(f"{folder.as_uri() if from_disk else base}/book/try_it.html")
        assert tab.locator(".mpox-page-static figure").count() == 3 and not any(FOLDER in url for url in asked)
        tab.click("[data-do=load]")
        until(tab, "document.querySelector('[data-part=progress]').textContent.includes('ready')")
        scripts = [url for url in asked if url.endswith(".js")]
        assert [url.rpartition("/")[2] for url in scripts] == ["ort.wasm.min.js", "runtime.js", "model.js"]
        before, heard = len(asked), len(served)
        for file in files:
            tab.evaluate("delete document.querySelector('.mpox-page').dataset.said")
            tab.set_input_files("[data-part=file]", file)
            for number, wanted in enumerate(expected[file.name]):
                tab.check(f"input[type=radio][value='{number}']")
                until(tab, SAID)
                said = json.loads(tab.evaluate(SAID))
                apart = np.abs(np.subtract(said["probabilities"], list(wanted["probabilities"].values()))).max()
                assert apart < TOLERANCE and said["strange"] == wanted["strange"], (file.name, number, apart)
            tab.check("input[type=radio][value='0']")
        assert [url for url in asked[before:] if not url.startswith("blob:")] == []  # what the browser reports
        assert len(served) == heard and bool(served) is not from_disk  # what a server on this machine hears
        tab.fill("[data-part=prevalence]", "50")
        assert tab.inner_text("[data-part=alarms]") == "10 of 100 alarms are false."
        tab.fill("[data-part=prevalence]", "0")
        assert "above 0 and below 100" in tab.inner_text("[data-part=alarms]")
        (tmp_path / "broken.jpg").write_bytes(b"no image")
        tab.set_input_files("[data-part=file]", tmp_path / "broken.jpg")
        assert "cannot be used" in until(tab, FAULT)
        tab.click("[data-do=map]")
        tab.click("[data-do=cancel]")
        until(tab, "document.querySelector('[data-do=cancel]').hidden")
        assert tab.inner_text("[data-part=map]") == ""
        tab.click("[data-do=forget]")
        assert tab.is_hidden("[data-part=shown]") and tab.evaluate(SAID) is None
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390 and faults == []
        if from_disk:
            tab.click("[data-example='1']")
            until(tab, SAID)
            tab.click("[data-do=map]")
            assert "row" in until(tab, "document.querySelector('[data-part=map]').textContent", 300)
        tab.close()


def test_a_browser_that_cannot_is_told_what_it_lacks(chromium, page):
    folder, _ = page
    tab = chromium.new_page()
    tab.add_init_script("delete window.DecompressionStream")
    tab.goto(f"{folder.as_uri()}/book/try_it.html")
    assert "lacks DecompressionStream" in until(tab, FAULT) and tab.is_disabled("[data-do=load]")
    tab.close()


def test_the_examples_are_drawn_and_differ():
    drawn = examples(96)
    assert list(drawn)[:2] == ["phantom, drawn as Mpox", "skin without a rash"] and {"a cat", "stripes"} < set(drawn)
    assert len({hashlib.sha256(image.tobytes()).hexdigest() for image in drawn.values()}) == len(drawn)
    image = page_model._png(drawn["a cat"]).partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == (96, 96)
