"""A run asked about other images: probabilities, conformal sets, a warning for unfamiliar images."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from PIL import Image
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write, hash_of
from mpox.audit import copies_among
from mpox.data.manifest import files_below, shown, too_small
from mpox.data.pictures import EXTENSIONS, UnusablePicture, printable, read_rgb
from mpox.data.pixels import load_pixels
from mpox.models.backbones import Deployable, build_model
from mpox.models.config import ModelConfig, current_engine
from mpox.models.hardware import torch_device
from mpox.protocols.splits import PROTOCOLS
from mpox.runs.cross_validation import fitted_network, predict_nested, refuse_without_network
from mpox.runs.listing import find_run, split_rows, training_data
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore
from mpox.stats.calibration import apply_temperature, codes_of, fit_temperature, probabilities_of
from mpox.stats.conformal import NOTHING, ConformalScores, fit_conformal, predict_sets
from mpox.stats.decisions import Aim, choose_threshold, operating_point
from mpox.stats.novelty import Novelty, fit_novelty, novelty_score
from mpox.stats.resample import EXACT

NOTICE = "Research software, not a medical device."
PHANTOM = "The run learnt from a phantom, not patients: what it says of a photograph means nothing."
UNFAMILIAR = "unlike the images that the run learnt from: do not rely on its classes"
TRAINED_ON = "shows the photograph of the training image {}: what is said of it was learnt by heart"
NO_ANSWER = "no answer"
#: Raised by one whenever the predictor of an unchanged run changes.
VERSION = 2
AIM = Aim("sensitivity", 0.95)
BATCH = 16


@dataclass(frozen=True, eq=False)
class Predictor:
    """A run's network, without temperature, and what is fitted beside it; ``threshold`` (`AIM`) is a calibrated probability."""

    network: Deployable
    model: ModelConfig
    classes: tuple[str, ...]
    positive: str
    temperature: float
    threshold: float
    conformal: ConformalScores
    novelty: Novelty
    provenance: dict

    def predict(self, pixels: np.ndarray, *, confidence: float = 0.9, device: str = "cpu") -> pd.DataFrame:
        """What is said of images, uint8 of shape (n, size, size, 3) from `read_square`; a row an image."""
        found, raw = outputs(self.network, pixels, device=device)
        novelty = novelty_score(self.novelty, found)
        strange = novelty > self.novelty.threshold  # what the run would say of such an image is no answer
        chosen = predict_sets(self.conformal, raw, confidence) & ~strange[:, None]
        sets = [[label for label, there in zip(self.classes, row, strict=True) if there] for row in chosen]
        answers = [labels[0] if len(labels) == 1 else f"not sure: {' or '.join(labels) or NOTHING}" for labels in sets]
        table = pd.DataFrame({"answer": pd.Series(answers, dtype=object).mask(strange, None), "set": sets})
        table[[f"p_{label}" for label in self.classes]] = apply_temperature(raw, self.temperature)
        table[[f"uncalibrated_{label}" for label in self.classes]] = raw
        table["finding"] = (table[f"p_{self.positive}"] >= self.threshold).astype(object).mask(strange, None)
        return table.assign(novelty=novelty, out_of_distribution=strange)


def read_square(path: Path, image_size: int) -> np.ndarray:
    """An image file as a run sees it: uint8 of shape (size, size, 3), RGB, squashed to a square."""
    image = read_rgb(path)
    if reason := too_small(*image.size):  # the study has none to learn from
        raise UnusablePicture(printable(path.name), reason)
    return np.asarray(image.resize((image_size, image_size), Image.Resampling.BICUBIC))


def outputs(network: Deployable, pixels: Any, *, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Features (float32, (n, d); the mean of an image's and its mirror image's) and probabilities (float64, (n, classes))."""
    target = torch_device(device)
    network = network.to(target).to(memory_format=torch.channels_last).eval()
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc=f"{len(pixels)} images", delay=3, leave=False):
        batch = torch.from_numpy(np.array(pixels[start : start + BATCH])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = network.features(batch.to(target).to(torch.float32, memory_format=torch.channels_last))
            views = found.reshape(2 if network.mirror else 1, -1, found.shape[1]).mean(0)
            parts.append((views.cpu().numpy(), network.probabilities(found).double().cpu().numpy()))
    return np.concatenate([one for one, _ in parts]), np.concatenate([other for _, other in parts])


def build_predictor(
    store: RunStore | RecordedStore, run_id: str, data_dir: str | None = None, *, tell: Callable[[str], None] = lambda text: None
) -> Predictor:
    """The predictor of the run whose id begins so; it is kept in the run's folder, and to make it takes the run's data set.

    Temperature, conformal scores and threshold are fitted on nested predictions of the run's fold (`predict_nested`), the novelty
    score on the features of its training images, held out by group.
    """
    if isinstance(store, RecordedStore):
        raise MpoxError("The recorded study keeps predictions, not networks: compute the run where its images are (--store).")
    run = find_run(store, run_id)
    model = run.config.model
    refuse_without_network(model)
    made = {"version": VERSION, "package": version("mpox"), "engine": current_engine(model)}
    path = store.run_folder(run.config) / f"predictor-{hash_of(made)}.pt"
    if not path.is_file():
        buffer = BytesIO()
        torch.save(_fit(store, run, data_dir, tell), buffer)
        atomic_write(path, buffer.getvalue())
    kept: dict[str, Any] = torch.load(path, weights_only=True)
    network = build_model(model.backbone, model.head, len(kept["classes"]), weights="random")
    network.load_state_dict(kept.pop("network"))
    novelty: dict[str, Any] = {
        name: part.numpy() if torch.is_tensor(part) else part for name, part in kept.pop("novelty").items()
    }
    kept |= {"novelty": Novelty(**novelty), "conformal": ConformalScores(**kept.pop("conformal"))}
    return Predictor(Deployable(network, model).eval(), model, **kept)


def _fit(store: RunStore, run: RunResult, data_dir: str | None, tell: Callable[[str], None]) -> dict:
    """The fields of a predictor, of types that `torch.load` takes from anybody."""
    config, model = run.config, run.config.model
    data, rows = training_data(store, config, data_dir)
    classifier = fitted_network(store, data, config, rows)
    if classifier is None:
        raise MpoxError(
            f"The network of the run {config.id} was not kept (an adopted run has none), or the images of its probe are not "
            "here: remove the run's folder and compute it again where its images are."
        )
    if model.training is not None:
        tell("Fitting what goes with the network; its inner folds are trained unless they are in the store.")
    known, said = outputs(Deployable(classifier, model), load_pixels(data.manifest, model.image_size))
    ids = data.manifest["image_id"]
    apart = np.abs(said[pd.Index(ids).get_indexer(run.predictions["image_id"])] - probabilities_of(run.predictions)).max()
    if not apart <= (1e-4 if model.training is None else 0.05):  # a trained network may have predicted in half precision
        raise MpoxError(
            f"The network of the run {config.id} differs from the run's predictions by {apart:.2g}: other weights, code or "
            f"libraries made it, or '{config.protocol}' fits in its own way. Compute the run again, or name another."
        )
    nested = predict_nested(store, data, rows, model)
    raw, y, k = probabilities_of(nested), codes_of(nested), data.classes.index(data.positive)
    temperature = fit_temperature(raw, y)
    train = ids.isin(rows.loc[rows["role"] == "train", "image_id"]).to_numpy()
    groups = ids[train].map(data.groups).to_numpy(dtype=str)
    novelty = vars(fit_novelty(known[train], groups=groups))
    return {
        "network": classifier.state_dict(),
        "classes": tuple(data.classes),
        "positive": data.positive,
        "temperature": float(temperature),
        "threshold": float(choose_threshold(apply_temperature(raw, temperature)[:, k], y == k, aim=AIM)),
        "conformal": vars(fit_conformal(raw, y)),
        "novelty": {name: torch.from_numpy(part) if isinstance(part, np.ndarray) else part for name, part in novelty.items()},
        "provenance": {
            **{"run_id": config.id, "dataset": config.dataset, "data_hash": config.data, "phantom": data.is_phantom},
            **{"trained_on_images": int(train.sum()), "trained_on_groups": len(set(groups))},
            **{name: getattr(config, name) for name in ("protocol", "repeat", "fold")},
            **{name: getattr(model, name) for name in ("regime", "backbone", "image_size")},
            "package": version("mpox"),
        },
    }


def honest_performance(store: RunStore, run_id: str, predictor: Predictor) -> dict:
    """What the predictor's threshold is worth on the run's own test images, with intervals from their groups.

    ``sensitivity`` and ``specificity`` (``estimate``, ``low``, ``high``, ``interval``) are ``None`` where its protocol leaks.
    """
    run = find_run(store, run_id)
    protocol = run.config.protocol
    groups = split_rows(store, run.config).set_index("image_id")["group_id"]
    tested = run.predictions.assign(group_id=run.predictions["image_id"].map(groups), repeat=0)
    about = {"protocol": protocol, "images": len(tested), "groups": int(tested["group_id"].nunique())}
    if protocol in ("leak_dose", "copies_cross") or (protocol in PROTOCOLS and PROTOCOLS[protocol].leaks):
        return about | {"sensitivity": None, "specificity": None}
    tested[[f"p_{label}" for label in predictor.classes]] = apply_temperature(probabilities_of(tested), predictor.temperature)
    table = operating_point(tested, predictor.threshold, positive=predictor.positive).set_index("metric").astype(object)
    table = table.where(table.notna(), None)
    return about | {name: table.loc[name].to_dict() for name in ("sensitivity", "specificity")}


def training_images(store: RunStore, run_id: str, data_dir: str | None = None) -> pd.DataFrame:
    """``image_id``, ``path`` and ``pixel_sha256`` of what a run learnt from; an `MpoxError` if that is not here."""
    data, rows = training_data(store, find_run(store, run_id).config, data_dir)
    known = data.manifest[data.manifest["image_id"].isin(rows.loc[rows["role"] == "train", "image_id"])]
    if "original_id" in known:  # the copies of a photograph show it, too
        known = known.assign(image_id=known["original_id"], pixel_sha256=known["original_sha256"])
    return known[["image_id", "path", "pixel_sha256"]].drop_duplicates("image_id", ignore_index=True)


def predict_files(
    predictor: Predictor,
    paths: list[Path],
    *,
    confidence: float = 0.9,
    device: str = "cpu",
    heat_maps: Path | None = None,
    training: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Ask a predictor about image files, and folders of them; one row a file: ``file`` and what `Predictor.predict` says.

    ``in_training`` lists those of `training_images` that show the same photograph (missing where these are not given).
    ``heat_map`` names the file with the Grad-CAM of the most probable class; ``error`` is a sentence, in rows at the end.
    ``attrs["passed_over"]`` lists the folders of the system that were not looked into.
    """
    if not 0 < confidence < 1:
        raise MpoxError(f"A confidence lies between 0 and 1, not at {confidence}: 0.9 is usual.")
    files, errors, passed_over = _find_images(paths)
    targets = _heat_map_files(files, heat_maps) if heat_maps else {}
    shares = [f"p_{label}" for label in predictor.classes]
    columns = ["file", "answer", "set", *shares, *(f"uncalibrated_{label}" for label in predictor.classes)]
    columns += ["finding", "novelty", "out_of_distribution", "in_training", "heat_map", "error"]
    tables, copies = [pd.DataFrame(columns=columns)], copies_among(training) if training is not None and files else None
    for start in tqdm(range(0, len(files), BATCH), desc="predict", delay=3, leave=False):
        read = {}
        for file in files[start : start + BATCH]:
            try:
                read[file] = read_square(file, predictor.model.image_size)
            except UnusablePicture as error:
                errors[file] = f"{error.reason}."
        if read:
            pixels = np.stack(list(read.values()))
            table = predictor.predict(pixels, confidence=confidence, device=device)
            if heat_maps:
                _draw(predictor, pixels, table[shares].to_numpy().argmax(axis=1), [(file, targets[file]) for file in read])
            seen = [copies(read_rgb(file)) if copies else None for file in read]
            tables.append(table.assign(file=list(read), in_training=seen, heat_map=[targets.get(file) for file in read]))
    tables.append(pd.DataFrame({"file": list(errors), "error": list(errors.values())}))
    found = pd.concat([table.astype(object) for table in tables], ignore_index=True)
    names = {name: found[name].map(lambda path: printable(str(path)), na_action="ignore") for name in ("file", "heat_map")}
    found = found.assign(**names)
    found.attrs["passed_over"] = passed_over
    return found


def _find_images(paths: list[Path]) -> tuple[list[Path], dict[Path, str], list[str]]:
    """The files that are meant, each once: as named, and all images below a folder; what is wrong; and what is passed over."""
    files, errors, passed_over = [], {}, []
    for path in paths:
        there = sorted((Path(file), of_the_system) for file, of_the_system in files_below(path))
        below = [file for file, skipped in there if not skipped and file.suffix.lower() in EXTENSIONS and file.is_file()]
        passed_over += [shown(str(folder)) for folder, skipped in there if skipped]
        files += below if path.is_dir() else [path] if path.exists() else []
        if not path.exists():
            errors[path] = "does not exist: correct the name."
        elif path.is_dir() and not below:
            errors[path] = "is a folder without an image: name another."
    return list(dict.fromkeys(files)), errors, passed_over


def _heat_map_files(files: list[Path], folder: Path) -> dict[Path, Path]:
    targets: dict[Path, Path] = {}
    for file in files:
        number = sum(other.stem == file.stem for other in targets)
        targets[file] = folder / f"{file.stem}-heat-map{f'-{number + 1}' if number else ''}.png"
        if targets[file].exists():
            name = printable(str(targets[file]))
            raise MpoxError(f"{name} exists already: name another folder for the heat maps, or remove it.")
    return targets


def _draw(predictor: Predictor, pixels: np.ndarray, classes: np.ndarray, files: list[tuple[Path, Path]]) -> None:
    """Lay Grad-CAM over each image, at most 1,024 pixels wide, and write it as PNG."""
    from mpox.models.explain import grad_cam  # captum takes its time

    network = predictor.network.network.to("cpu")
    for (file, target), heat in zip(files, grad_cam(network, predictor.model.backbone, pixels, classes), strict=True):
        image = read_rgb(file)
        image.thumbnail((1024, 1024))
        grey = Image.fromarray((heat * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
        colours = Image.fromarray((colormaps["inferno"](np.asarray(grey))[..., :3] * 255).astype(np.uint8))
        buffer = BytesIO()
        Image.blend(image, colours, 0.45).save(buffer, format="PNG")
        atomic_write(target, buffer.getvalue())


def as_text(table: pd.DataFrame, classes: tuple[str, ...]) -> str:
    """For a terminal, of a table from `predict_files`: probabilities in per cent, and warnings in words."""
    said = table[table["error"].isna()]
    shares = {label: said[f"p_{label}"].map(lambda value: f"{100 * value:.1f} %") for label in classes}
    warning = ["; ".join(_warnings(row)) for row in said.to_dict("records")]
    answer = said["answer"].fillna(NO_ANSWER)
    shown = pd.DataFrame({"image": said["file"], **shares, "answer": answer, "warning": warning})
    return shown.to_string(index=False, justify="left", max_colwidth=None) if len(shown) else ""


def performance_as_text(performance: dict, predictor: Predictor, confidence: float) -> str:
    """What a reader of an answer should know: `honest_performance` and the confidence of the sets, in two sentences."""
    shares = {name: performance[name] for name in ("sensitivity", "specificity")}
    worth = (
        f"The run has no honest sensitivity: its protocol, {performance['protocol']}, leaks. Ask a run of the protocol source."
    )
    if all(shares.values()):
        values = [f"{name} {_in_words(**share)}" for name, share in shares.items()]
        tested = f"{performance['images']} test images of {performance['groups']} groups"
        worth = f"On the run's own {tested} its finding of {predictor.positive} has {' and '.join(values)}."
    return f"{worth} An answer is the set of classes with a confidence of {100 * confidence:g} %."


def _in_words(estimate: float | None, low: float | None, high: float | None, interval: str) -> str:
    if estimate is None or low is None or high is None:
        return "not defined"
    return f"{estimate:.2f} ({'exact ' if interval == EXACT else ''}95 % CI {low:.2f} to {high:.2f})"


def _warnings(row: dict) -> list[str]:
    seen = row["in_training"] if isinstance(row["in_training"], list) else []
    return [UNFAMILIAR] * bool(row["out_of_distribution"]) + [TRAINED_ON.format(printable(name)) for name in seen[:1]]


def as_dict(predictor: Predictor, table: pd.DataFrame, confidence: float, performance: dict | None = None) -> dict:
    """A table from `predict_files` for JSON, with the run, what it is worth (`honest_performance`), the threshold and the notice.

    Of an image that is unlike the training images neither ``answer`` nor ``finding`` is given (null), and ``set`` is empty.
    """
    images = []
    for row in table[table["error"].isna()].to_dict("records"):
        entry = {name: row[name] for name in ("file", "answer", "set")}
        for name, prefix in (("probabilities", "p"), ("uncalibrated", "uncalibrated")):
            entry[name] = {label: row[f"{prefix}_{label}"] for label in predictor.classes}
        entry |= {name: row[name] for name in ("finding", "out_of_distribution", "novelty")}
        entry["in_training"] = row["in_training"] if isinstance(row["in_training"], list) else None
        entry["warnings"] = _warnings(row)
        images.append(entry | {"heat_map": row["heat_map"] or None})
    said = {
        "notice": NOTICE,
        "run": predictor.provenance,
        "performance": performance,
        "classes": list(predictor.classes),
        "confidence": confidence,
        "threshold": {"class": predictor.positive, "aim": str(AIM), "probability": predictor.threshold},
        "temperature": predictor.temperature,
        "novelty_threshold": predictor.novelty.threshold,
        "images": images,
        "passed_over": table.attrs["passed_over"],
        "errors": table.loc[table["error"].notna(), ["file", "error"]].to_dict("records"),
    }
    return json.loads(json.dumps(said), parse_constant=lambda _: None)  # JSON knows no NaN
