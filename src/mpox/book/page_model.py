"""The page on which a reader asks the recorded model about an image: what is drawn for it, and what a build puts into it.

Everything runs in the reader's browser, also from disk: three classic scripts, loaded when they are asked for, hold ONNX Runtime
Web, the backbone and the heads (`mpox.studies.page_model`).
"""

import base64
import gzip
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mpox._core import MpoxError
from mpox.book.explorers import piece
from mpox.book.plots import dataset_title
from mpox.book.report import short_name
from mpox.data.manifest import MIN_SIDE
from mpox.data.phantom import PhantomSpec, healthy_counterpart, person
from mpox.data.phantom.picture import take
from mpox.data.pictures import MAX_PIXELS
from mpox.models.config import ModelConfig
from mpox.stats.calibration import apply_temperature
from mpox.stats.conformal import ConformalScores, predict_sets
from mpox.studies.page_model import PageModel

#: The page, and where its scripts are in a built edition.
PAGE, FOLDER = "book/try_it", "page_model"
#: ONNX Runtime Web 1.30.0 in ``book/page_model``: SHA-256 of each file, of the WebAssembly unpacked.
DIGESTS = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm.gz": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
#: What the page may do: run its own scripts and the WebAssembly, and fetch nothing.
POLICY = (
    "default-src 'self' 'unsafe-inline' data: blob:; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "connect-src 'none'; form-action 'none'; base-uri 'none'; frame-src 'none'; object-src 'none'; worker-src 'none'"
)
CONFIDENCE = 0.9
#: What each model tells apart, in words.
TASKS = {"msld-v1": "Mpox or other rashes", "msid": "Mpox, other rashes or healthy skin"}


# ------------------------------------------------------------------------------------------------ examples
def examples(size: int = 224) -> dict[str, np.ndarray]:
    """Drawn images by name, uint8 of shape (size, size, 3): two of the phantom, and four that show no rash."""
    spec = PhantomSpec(seed=90_002, size=size, copies=0, label_conflicts=0)
    ill = next(k for k in range(spec.n_patients) if person(spec, k).label == "Mpox")
    drawn = {"phantom, drawn as Mpox": take(person(spec, ill), spec.seed, ill, 0, size=size).image}
    drawn["skin without a rash"] = healthy_counterpart(spec, ill + 3, 1)
    return drawn | {name: _sketch(shapes, size) for name, shapes in _SKETCHES.items()}


def _sketch(shapes: list[tuple], size: int) -> np.ndarray:
    """Shapes in units of a hundredth of the side, drawn at four times the size, with a little grain."""
    sheet = Image.new("RGB", (4 * size, 4 * size))
    pen = ImageDraw.Draw(sheet)
    for kind, places, colour in shapes:
        getattr(pen, kind)([4 * size * place / 100 for place in places], fill=colour)
    grain = np.random.default_rng(0).normal(0, 4, (size, size, 1))
    return np.clip(np.asarray(sheet.reduce(4)) + grain, 0, 255).astype(np.uint8)


_FUR, _DARK, _CHEESE = "#c98d4b", "#3a2a20", "#f0c459"
_SKETCHES: dict[str, list[tuple]] = {
    "a cat": [
        ("rectangle", (0, 0, 100, 100), "#7f9db5"), ("ellipse", (22, 62, 78, 130), _FUR), ("ellipse", (24, 26, 76, 76), _FUR),
        ("polygon", (26, 44, 28, 12, 48, 30), _FUR), ("polygon", (74, 44, 72, 12, 52, 30), _FUR),
        ("ellipse", (35, 42, 45, 52), "#d7e36b"), ("ellipse", (55, 42, 65, 52), "#d7e36b"), ("ellipse", (39, 42, 42, 52), _DARK),
        ("ellipse", (58, 42, 61, 52), _DARK), ("polygon", (46, 57, 54, 57, 50, 62), "#c0616b"),
        *(("line", (50 + side * 6, 60 + k, 50 + side * 32, 57 + 4 * k), _DARK) for side in (-1, 1) for k in (0, 1, 2)),
    ],
    "stripes": [("rectangle", (0, 10 * k, 100, 10 * k + 10), ("#222222", "#eeeeee")[k % 2]) for k in range(10)],
    "a slice of pizza": [
        ("rectangle", (0, 0, 100, 100), "#e8e4da"), ("polygon", (50, 95, 8, 18, 92, 18), _CHEESE),
        ("ellipse", (6, 8, 94, 28), "#b9803f"), ("ellipse", (12, 14, 88, 27), _CHEESE),
        *(("ellipse", (x - 8, y - 8, x + 8, y + 8), "#b5382c") for x, y in ((34, 36), (62, 33), (50, 56), (47, 77))),
        *(("ellipse", (x - 2, y - 2, x + 2, y + 2), "#4d7a3a") for x, y in ((48, 40), (40, 50), (60, 47), (54, 68))),
    ],
}  # fmt: skip


def answer(model: PageModel, vector: np.ndarray) -> dict[str, Any]:
    """What the page states for a feature vector, shape (d,): ``probabilities`` by class, ``set``, and ``strange`` (bool)."""
    facts, numbers = model.facts, model.columns.to_numpy(float)
    n, vector = len(facts["classes"]), np.asarray(vector, dtype=float)
    logits = np.array(facts["intercepts"]) + vector @ numbers[:, :n]
    raw = np.exp(logits - np.logaddexp.reduce(logits))[None]
    scores = ConformalScores(tuple(map(tuple, facts["conformal"])), by_class=True)
    chosen = predict_sets(scores, raw, CONFIDENCE)[0]
    gaps = vector[:, None] - numbers[:, n : 2 * n]
    squared = facts["novelty_scale"] * (gaps**2).sum(axis=0) - ((numbers[:, 2 * n :].T @ gaps) ** 2).sum(axis=0)
    return {
        "probabilities": dict(zip(facts["classes"], apply_temperature(raw, facts["temperature"])[0].tolist(), strict=True)),
        "set": [label for label, there in zip(facts["classes"], chosen, strict=True) if there],
        "strange": bool(np.sqrt(max(0.0, squared.min())) > facts["novelty_threshold"]),
    }


# ------------------------------------------------------------------------------------------- into the page
def write_scripts(vendored: Path, models: list[PageModel], target: Path) -> tuple[bytes, int]:
    """Write what the page loads into `target`; give the backbone, an ONNX file, and how many bytes a page loads.

    A damaged runtime is an `MpoxError`.
    """
    from mpox.runs.export import backbone_as_onnx

    files = {name: (vendored / name).read_bytes() for name in DIGESTS}
    for name, content in files.items():
        found = hashlib.sha256(gzip.decompress(content) if name.endswith(".gz") else content).hexdigest()
        if found != DIGESTS[name]:
            raise MpoxError(f"{vendored / name} is not the file of ONNX Runtime Web 1.30.0: get it again.")
    runtime, glue, wasm = files.values()
    facts = models[0].facts
    backbone = backbone_as_onnx(ModelConfig(backbone=facts["backbone"], image_size=facts["image_size"]))
    heads = [_text(np.ascontiguousarray(model.columns.to_numpy(np.float32).T).tobytes()) for model in models]
    contents: dict[str, tuple[str, dict[str, Any]]] = {
        "runtime.js": ("mpoxRuntime", {"wasm": _text(wasm), "glue": glue.decode()}),
        "model.js": ("mpoxModel", {"backbone": _text(gzip.compress(backbone, 9, mtime=0)), "heads": heads}),
    }
    target.mkdir(parents=True)
    (target / "ort.wasm.min.js").write_bytes(runtime)
    for name in ("LICENSE", "ThirdPartyNotices.txt.gz"):
        shutil.copy(vendored / name, target)
    for name, (variable, payload) in contents.items():
        (target / name).write_text(f"window.{variable} = {json.dumps(payload)};\n", encoding="utf-8")
    return backbone, sum(file.stat().st_size for file in target.glob("*.js"))


def page_html(models: list[PageModel], backbone: bytes, size_bytes: int, findings: Mapping[str, str]) -> str:
    """The page's own part as HTML: the control, and three examples as figures with what the models state, computed here.

    The first two arguments after the models are of `write_scripts`; `findings` have what chapter 9 measured of the threshold:
    ``use_NAME_sensitivity_at_95`` and its like.
    """
    from mpox.runs.export import asking_features

    size, shown = models[0].facts["image_size"], examples(models[0].facts["image_size"])
    vectors = asking_features(backbone)(np.stack(list(shown.values())))
    entries = [{"name": name, "src": _png(image)} for name, image in shown.items()]
    scripts = [_of_model(model, findings) for model in models]
    about = {"folder": f"../_static/{FOLDER}", "size": size, "least": MIN_SIDE, "most": MAX_PIXELS, "models": scripts}
    about["confidence"] = CONFIDENCE
    about["maps"] = (
        "Chapter 6 put two other kinds of map to the test: on neither collection did one beat both random cells and a plain blob."
    )
    control = piece("page_model", "mpoxPage", about, models=scripts, examples=entries, megabytes=round(size_bytes / 1e6))
    figures = []
    for entry, vector in list(zip(entries, vectors, strict=True))[:3]:
        said = [f"{one['title']}: {_in_words(answer(model, vector), model)}" for one, model in zip(scripts, models, strict=True)]
        image = f'<img src="{entry["src"]}" width="{size}" height="{size}" alt="Drawn image: {entry["name"]}">'
        figures.append(
            f"<figure>{image}<figcaption>{entry['name'][:1].upper()}{entry['name'][1:]}. {' '.join(said)}</figcaption></figure>"
        )
    return (
        f'{control}\n<p>What they state of three of the drawn images:</p>\n<div class="mpox-page-static">{"".join(figures)}</div>'
    )


def _of_model(model: PageModel, findings: Mapping[str, str]) -> dict[str, Any]:
    facts = model.facts
    name = short_name(facts["dataset"])
    keys = {measure: f"use_{name}_{measure}_at_95" for measure in ("sensitivity", "specificity")}
    if missing := set(keys.values()) - set(findings):
        raise MpoxError(f"The page {PAGE} needs {', '.join(sorted(missing))}: keep 0.95 among SENSITIVITIES of chapter 9.")
    reached = {measure: int(findings[key].split()[0]) / 100 for measure, key in keys.items()}
    own, elsewhere, bare = (f"{100 * facts['warned'][kind]:.0f}" for kind in ("own", "elsewhere", "no skin"))
    found, false = 100 * reached["sensitivity"], 100 * (1 - reached["specificity"])
    says = (
        f"The alarm is set to find 95 of 100 images of Mpox; in the test of chapter 9 it found {found:.0f}, and {false:.0f} "
        f"of 100 others raised it, too. The warning of strange images is raised for {own} of 100 new images of its own "
        f"collection, {elsewhere} of 100 of the other collection, and {bare} of 100 images without skin."
    )
    kept = ("classes", "positive", "intercepts", "temperature", "threshold", "conformal", "novelty_scale", "novelty_threshold")
    title = dataset_title(facts["dataset"])
    return {name: facts[name] for name in kept} | reached | {"says": says, "title": title, "task": TASKS[facts["dataset"]]}


def _in_words(said: dict[str, Any], model: PageModel) -> str:
    p = said["probabilities"][model.facts["positive"]]
    names = said["set"]
    answered = f"one class left, {names[0]}" if len(names) == 1 else f"not sure: {' or '.join(names) or 'no class fits'}"
    return f"{'no answer, unlike its images' if said['strange'] else answered}; probability of Mpox {p:.2f}."


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{_text(buffer.getvalue())}"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
