"""A run asked about other images: probabilities, conformal sets, a warning for unfamiliar images."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm.auto import tqdm

from mpox._core import MpoxError, atomic_write, replacing
from mpox.data.dataset import Dataset
from mpox.data.pictures import EXTENSIONS, UnusablePicture, printable, read_rgb
from mpox.data.pixels import RenderedPixels, load_pixels
from mpox.models.backbones import Classifier, Deployable, build_model, weights_origin
from mpox.models.config import ModelConfig, current_engine
from mpox.models.features import features
from mpox.models.hardware import torch_device
from mpox.runs.cross_validation import CHECKPOINT, fitted_network, load_model, predict_nested, refuse_without_network
from mpox.runs.listing import find_run, training_data
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunResult, RunStore
from mpox.stats.calibration import apply_temperature, class_names, codes_of, fit_temperature, probabilities_of
from mpox.stats.conformal import NOTHING, ConformalScores, fit_conformal, predict_sets
from mpox.stats.decisions import Aim, choose_threshold
from mpox.stats.novelty import Novelty, fit_novelty, novelty_score

NOTICE = "Research software, not a medical device."
#: In the run's folder: what is fitted beside the network, and a probe's head.
BUNDLE = "predictor.safetensors"
#: Raised by one whenever the bundle of an unchanged run changes.
VERSION = 2
AIM = Aim("sensitivity", 0.95)
BATCH = 16
#: A refitted probe must give the run's probabilities.
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Predictor:
    """What a run says to a picture.

    Parameters
    ----------
    network : Deployable
        Without the temperature: its probabilities are those of the run's predictions. Those of ``tail_tune`` were made from
        activations in half precision, and differ by some 0.001.
    model : ModelConfig
    classes : tuple of str
        In the order of the network's outputs.
    temperature : float
        See `mpox.stats.calibration.fit_temperature`.
    conformal : ConformalScores
        Of the probabilities before the temperature.
    novelty : Novelty
        Of the pooled features.
    positive : str
        The class that is the finding.
    thresholds : dict of str to float
        Aim (`mpox.stats.decisions.Aim`) to the calibrated probability of the positive class from which on a picture is one.
    provenance : dict
        JSON-able: ``run_id``, ``dataset``, ``data_hash``, ``phantom``, ``protocol``, ``repeat``, ``fold``, ``regime``,
        ``backbone``, ``image_size``, ``trained_on_images``, ``trained_on_groups``, ``package``.
    """

    network: Deployable
    model: ModelConfig
    classes: tuple[str, ...]
    temperature: float
    conformal: ConformalScores
    novelty: Novelty
    positive: str
    thresholds: dict[str, float]
    provenance: dict

    def predict(self, pixels: np.ndarray, *, confidence: float = 0.9, device: str = "cpu") -> pd.DataFrame:
        """Everything about pictures that is not drawn.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, size, size, 3)
            See `read_square`.
        confidence : float
            Of the conformal sets.
        device : {"cpu", "cuda"}

        Returns
        -------
        DataFrame
            One row a picture: ``raw_<class>`` (what the run's own predictions hold), ``p_<class>`` (calibrated), ``in_<class>``
            (bool: the conformal set), ``finding`` (bool: the positive class at the threshold of `AIM`), ``novelty`` (0 to 2) and
            ``unusual`` (bool).
        """
        found, raw = outputs(self.network, pixels, device=device)
        table = pd.DataFrame(raw, columns=[f"raw_{label}" for label in self.classes])
        table[[f"p_{label}" for label in self.classes]] = apply_temperature(raw, self.temperature)
        table[[f"in_{label}" for label in self.classes]] = predict_sets(self.conformal, raw, confidence)
        table["finding"] = table[f"p_{self.positive}"] >= self.thresholds[str(AIM)]
        table["novelty"] = novelty_score(self.novelty, found)
        return table.assign(unusual=table["novelty"] > self.novelty.threshold)

    def heat_maps(self, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Grad-CAM of the network before mirroring, on the CPU; see `mpox.models.explain.grad_cam`."""
        from mpox.models.explain import grad_cam

        return grad_cam(self.network.network.to("cpu"), self.model.backbone, pixels, target)


def read_square(path: Path, image_size: int) -> np.ndarray:
    """A picture file as a run sees it: uint8 of shape (size, size, 3), RGB, squashed to a square.

    Raises
    ------
    UnusablePicture
        See `mpox.data.pictures.read_rgb`.
    """
    return np.asarray(read_rgb(path).resize((image_size, image_size), Image.Resampling.BICUBIC))


def outputs(network: Deployable, pixels: np.ndarray | RenderedPixels, *, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Features (float32, shape (n, d); the mean of a picture's and its mirror image's) and probabilities (float64, (n, C))."""
    target = torch_device(device)
    network = network.to(target).to(memory_format=torch.channels_last).eval()
    parts = []
    for start in tqdm(range(0, len(pixels), BATCH), desc=f"{len(pixels)} pictures", delay=3, leave=False):
        batch = torch.from_numpy(np.array(pixels[start : start + BATCH])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found = network.features(batch.to(target).to(torch.float32, memory_format=torch.channels_last))
            views = found.reshape(2 if network.mirror else 1, -1, found.shape[1]).mean(0)
            parts.append((views.cpu().numpy(), network.probabilities(found).double().cpu().numpy()))
    return np.concatenate([one for one, _ in parts]), np.concatenate([other for _, other in parts])


def build_predictor(
    store: RunStore | RecordedStore,
    run_id: str,
    data_dir: str | None = None,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> Predictor:
    """Read a run's predictor, or make and keep it.

    To make it takes the run's data set, and the nested predictions of its fold (`predict_nested`): the temperature,
    the conformal scores and the threshold are fitted on these, the novelty score on the features of the training pictures, held
    out by group for its threshold. What another version of the package or of the regime's code has kept is made anew.

    Parameters
    ----------
    store : RunStore
    run_id : str
        The beginning of it is enough.
    data_dir : path, optional
        See `mpox.runs.listing.training_data`.
    tell : callable
        Told what takes its time.

    Raises
    ------
    MpoxError
        If the store is the recorded study; see `mpox.runs.listing`; if the run has no network, or it was not kept; if the weights
        behind a probe, or the code, are not those of the run; if there are too few groups for nested predictions.
    """
    if isinstance(store, RecordedStore):
        raise MpoxError("The recorded study keeps predictions, not networks: compute the run where its pictures are (--store).")
    run = find_run(store, run_id)
    _refuse(store, run)
    path = store.run_folder(run.config) / BUNDLE
    kept = _read(path, run)
    if kept is None:
        kept = _fit(store, run, data_dir, tell)
        tensors, facts = kept
        atomic_write(path, save(tensors, metadata={"predictor": json.dumps(facts)}))
    return _assemble(store, run, *kept)


def _refuse(store: RunStore, run: RunResult) -> None:
    config, model = run.config, run.config.model
    refuse_without_network(model)
    if config.engine != current_engine(model):
        raise MpoxError(f"The run {config.id} was made by older code of '{model.regime}': compute it again with this version.")
    if model.training is not None and not (store.run_folder(config) / CHECKPOINT).is_file():
        raise MpoxError(
            f"The network of the run {config.id} was not kept (an adopted run has none): remove the run's folder and compute it "
            "again where its pictures are."
        )
    if model.training is None and model.weights == "imagenet":
        now, then = weights_origin(model.backbone), run.environment.get("weights")
        if now != then:
            raise MpoxError(f"The run {config.id} stands on other weights ({then}) than those found now ({now}): use these.")


def _stamp(run: RunResult) -> dict:
    return {"bundle": VERSION, "package": version("mpox"), "engine": run.config.engine, "run": run.config.id}


def _read(path: Path, run: RunResult) -> tuple[dict[str, torch.Tensor], dict] | None:
    """What was kept; None if there is nothing, or nothing of this version."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("predictor", "{}"))
            names = file.keys()
            return ({name: file.get_tensor(name) for name in names}, facts) if facts.get("made") == _stamp(run) else None
    except (OSError, SafetensorError, ValueError):
        return None


def _fit(store: RunStore, run: RunResult, data_dir: str | None, tell: Callable[[str], None]) -> tuple[dict, dict]:
    config, model = run.config, run.config.model
    data, rows = training_data(store, config, data_dir)
    if model.training is None and not data.has_pictures:
        raise MpoxError(f"The probe of the run {config.id} is fitted on pictures of {data.name}, which are not here: get them.")
    network = fitted_network(store, data, config, rows)
    assert network is not None, "_refuse has found the checkpoint, and a probe's pictures are here"
    train = np.flatnonzero(data.manifest["image_id"].isin(rows.loc[rows["role"] == "train", "image_id"]))
    if model.training is None:
        known = features(data.manifest, model)
        _same_as_run(network, known, data, run)
        known = known[train]
    else:
        tell("Fitting what goes with the network; its inner folds are trained unless they are in the store.")
        pixels = load_pixels(data.manifest.iloc[train].reset_index(drop=True), model.image_size)
        known, _ = outputs(_deployable(network, model), pixels)
    nested = predict_nested(store, data, rows, model)
    raw, y = probabilities_of(nested), codes_of(nested)
    temperature = fit_temperature(raw, y)
    k = data.classes.index(data.positive)
    threshold = choose_threshold(apply_temperature(raw, temperature)[:, k], y == k, aim=AIM)
    groups = data.manifest["image_id"].map(data.groups).to_numpy(dtype=str)[train]
    novelty = fit_novelty(known, groups=groups)
    parts = {f"novelty.{field.name}": getattr(novelty, field.name) for field in fields(novelty)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items() if isinstance(part, np.ndarray)}
    if model.training is None:
        tensors |= {f"head.{name}": value.contiguous() for name, value in network.head.state_dict().items()}
    facts = {
        "made": _stamp(run),
        "temperature": temperature,
        "conformal": asdict(fit_conformal(raw, y)),
        "novelty": {name.removeprefix("novelty."): part for name, part in parts.items() if name not in tensors},
        "positive": data.positive,
        "thresholds": {str(AIM): threshold},
        "phantom": data.is_phantom,
        "trained_on_images": len(train),
        "trained_on_groups": len(set(groups)),
    }
    return tensors, facts


def _same_as_run(network: Classifier, known: np.ndarray, data: Dataset, run: RunResult) -> None:
    where = pd.Index(data.manifest["image_id"]).get_indexer(run.predictions["image_id"])
    with torch.inference_mode():
        found = network.head(torch.from_numpy(known[where])).softmax(dim=1).numpy()
    apart = float(np.abs(found - probabilities_of(run.predictions)).max())
    if not apart <= TOLERANCE:
        raise MpoxError(
            f"The probe of the run {run.config.id}, fitted anew, differs from the run's predictions by {apart:.2g}: another "
            f"version of a library made it, or the protocol '{run.config.protocol}' fits in its own way. Compute the run again, "
            "or name another."
        )


def _deployable(network: Classifier, model: ModelConfig) -> Deployable:
    average = "logits" if model.training is None else "probabilities"
    return Deployable(network, model.backbone, mirror=model.mirror, average=average).eval()


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}


def _assemble(store: RunStore, run: RunResult, tensors: dict[str, torch.Tensor], facts: dict) -> Predictor:
    config, model, classes = run.config, run.config.model, class_names(run.predictions)
    if model.training is None:
        network = build_model(model.backbone, model.head, len(classes), weights=model.weights, seed=model.seed).eval()
        network.head.load_state_dict(_below("head.", tensors))
    else:
        network = load_model(store, config, len(classes))
    conformal = ConformalScores(tuple(map(tuple, facts["conformal"]["scores"])), facts["conformal"]["by_class"])
    novelty: dict[str, Any] = facts["novelty"] | {name: part.numpy() for name, part in _below("novelty.", tensors).items()}
    provenance = {
        "run_id": config.id,
        "dataset": config.dataset,
        "data_hash": config.data,
        **{name: facts[name] for name in ("phantom", "trained_on_images", "trained_on_groups")},
        **{name: getattr(config, name) for name in ("protocol", "repeat", "fold")},
        **{name: getattr(model, name) for name in ("regime", "backbone", "image_size")},
        "package": facts["made"]["package"],
    }
    return Predictor(
        network=_deployable(network, model),
        model=model,
        classes=tuple(classes),
        temperature=facts["temperature"],
        conformal=conformal,
        novelty=Novelty(**novelty),
        positive=facts["positive"],
        thresholds=facts["thresholds"],
        provenance=provenance,
    )


PHANTOM = "The run learnt from a phantom, not patients: what it says of a photograph means nothing."
UNUSUAL = "unlike the pictures that the run learnt from: do not rely on its classes"
#: Longer side of a heat map in pixels, at most.
HEAT_MAP_SIDE = 1024
HEAT_ALPHA = 0.45


@dataclass(frozen=True)
class Entry:
    """What is said about one picture.

    Parameters
    ----------
    file : str
    answer : str
        A class, or that and why the run is not sure.
    set : list of str
        The conformal set: the classes that cannot be excluded.
    probabilities, uncalibrated : dict of str to float
        By class; after and before the temperature.
    finding : bool
        Whether the positive class reaches the threshold for the stated sensitivity.
    out_of_distribution : bool
    novelty : float
    warnings : list of str
    heat_map : str or None
        The file in which it was drawn; it shows the most probable class.
    """

    file: str
    answer: str
    set: list[str]
    probabilities: dict[str, float]
    uncalibrated: dict[str, float]
    finding: bool
    out_of_distribution: bool
    novelty: float
    warnings: list[str]
    heat_map: str | None


@dataclass(frozen=True)
class Listing:
    """What is said about several pictures, and why nothing is said about others.

    Parameters
    ----------
    predictor : Predictor
    confidence : float
    entries : list of Entry
    errors : dict of str to str
        File to a sentence.
    """

    predictor: Predictor
    confidence: float
    entries: list[Entry]
    errors: dict[str, str]

    def as_dict(self) -> dict:
        """JSON-able: ``notice``, ``run``, ``classes``, ``confidence``, ``threshold``, ``images``, ``errors``."""
        run = self.predictor
        return {
            "notice": NOTICE,
            "run": run.provenance,
            "classes": list(run.classes),
            "confidence": self.confidence,
            "threshold": {"class": run.positive, "aim": str(AIM), "probability": run.thresholds[str(AIM)]},
            "temperature": run.temperature,
            "novelty_threshold": run.novelty.threshold,
            "images": [asdict(entry) for entry in self.entries],
            "errors": [{"file": file, "error": error} for file, error in self.errors.items()],
        }

    def as_table(self) -> pd.DataFrame:
        """One row a picture, those with an error last: ``file``, ``answer``, ``set``, ``p_<class>``, ``uncalibrated_<class>``,
        ``finding``, ``novelty``, ``out_of_distribution``, ``heat_map``, ``error``."""
        rows = []
        for entry in self.entries:
            row: dict[str, object] = {"file": entry.file, "answer": entry.answer, "set": " | ".join(entry.set)}
            row |= {f"p_{label}": value for label, value in entry.probabilities.items()}
            row |= {f"uncalibrated_{label}": value for label, value in entry.uncalibrated.items()}
            row |= {name: getattr(entry, name) for name in ("finding", "novelty", "out_of_distribution", "heat_map")}
            rows.append(row)
        rows += [{"file": file, "error": error} for file, error in self.errors.items()]
        columns = ["file", "answer", "set"]
        columns += [f"{kind}_{label}" for kind in ("p", "uncalibrated") for label in self.predictor.classes]
        return pd.DataFrame(rows, columns=[*columns, "finding", "novelty", "out_of_distribution", "heat_map", "error"])

    def as_text(self) -> str:
        """For a terminal: probabilities in per cent, and every warning in words."""
        if not self.entries:
            return ""
        rows = []
        for entry in self.entries:
            shares = {label: f"{100 * value:.1f} %" for label, value in entry.probabilities.items()}
            rows.append({"picture": entry.file, **shares, "answer": entry.answer, "warning": "; ".join(entry.warnings)})
        return pd.DataFrame(rows).to_string(index=False, justify="left", max_colwidth=None)


def find_pictures(paths: list[Path]) -> tuple[list[Path], dict[str, str]]:
    """The picture files that are meant: files as named, and of a folder all below it that have a picture's extension.

    Returns
    -------
    files : list of Path
        Each once; those of a folder sorted, hidden ones left out.
    errors : dict of str to str
        What is not there, or holds no picture.
    """
    files, errors = [], {}
    for path in paths:
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
            below = [file for file in below if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            files += below
            if not below:
                errors[printable(str(path))] = "is a folder without a picture: name another."
        elif path.exists():
            files.append(path)
        else:
            errors[printable(str(path))] = "does not exist: correct the name."
    return list(dict.fromkeys(files)), errors


def list_predictions(
    predictor: Predictor,
    paths: list[Path],
    *,
    confidence: float = 0.9,
    device: str = "cpu",
    heat_maps: Path | None = None,
    tell: Callable[[str, str], None] = lambda file, error: None,
) -> Listing:
    """Ask a predictor about picture files and folders of them; see `find_pictures`.

    Parameters
    ----------
    predictor : Predictor
    paths : list of Path
    confidence : float
        Of the conformal sets, between 0 and 1.
    device : {"cpu", "cuda"}
    heat_maps : Path, optional
        A folder for Grad-CAM overlays, ``<name>-heat-map.png``.
    tell : callable
        Told at once of each file that cannot be used, and why; the others are predicted all the same.

    Raises
    ------
    MpoxError
        If the confidence is out of range, the device is missing, or a heat map is there already: nothing is written over.
    """
    if not 0 < confidence < 1:
        raise MpoxError(f"A confidence lies between 0 and 1, not at {confidence}: 0.9 is usual.")
    files, errors = find_pictures(paths)
    targets = _targets(files, heat_maps) if heat_maps is not None else {}
    for name, reason in errors.items():
        tell(name, reason)
    entries, size = [], predictor.model.image_size
    for start in tqdm(range(0, len(files), BATCH), desc="predict", delay=3, leave=False):
        read = {}
        for file in files[start : start + BATCH]:
            try:
                read[file] = read_square(file, size)
            except UnusablePicture as error:
                name = printable(str(file))
                errors[name] = f"{error.reason}."
                tell(name, errors[name])
        if not read:
            continue
        pixels = np.stack(list(read.values()))
        table = predictor.predict(pixels, confidence=confidence, device=device)
        if targets:
            best = table[[f"p_{label}" for label in predictor.classes]].to_numpy().argmax(axis=1)
            for file, heat in zip(read, predictor.heat_maps(pixels, best), strict=True):
                _draw(file, heat, targets[file])
        rows = zip(read, table.to_dict("records"), strict=True)
        entries += [_entry(predictor, file, row, targets.get(file)) for file, row in rows]
    return Listing(predictor, confidence, entries, errors)


def _targets(files: list[Path], folder: Path) -> dict[Path, Path]:
    targets: dict[Path, Path] = {}
    taken: dict[str, int] = {}
    for file in files:
        taken[file.stem] = taken.get(file.stem, 0) + 1
        number = f"-{taken[file.stem]}" if taken[file.stem] > 1 else ""
        targets[file] = folder / f"{file.stem}-heat-map{number}.png"
    there = [path for path in targets.values() if path.exists()]
    if there:
        raise MpoxError(f"{printable(str(there[0]))} exists already: name another folder for the heat maps, or remove it.")
    return targets


def _draw(file: Path, heat: np.ndarray, target: Path) -> None:
    """Lay a heat map (0 to 1) over its picture and write it as PNG."""
    picture = read_rgb(file)
    picture.thumbnail((HEAT_MAP_SIDE, HEAT_MAP_SIDE))
    grey = Image.fromarray((heat * 255).astype(np.uint8)).resize(picture.size, Image.Resampling.BILINEAR)
    colours = Image.fromarray((colormaps["inferno"](np.asarray(grey))[..., :3] * 255).astype(np.uint8))
    with replacing(target) as stream:
        Image.blend(picture, colours, HEAT_ALPHA).save(stream, format="PNG")


def _entry(predictor: Predictor, file: Path, row: dict, heat_map: Path | None) -> Entry:
    classes = predictor.classes
    chosen = [label for label in classes if row[f"in_{label}"]]
    answer = chosen[0] if len(chosen) == 1 else f"not sure: {' or '.join(chosen) or NOTHING}"
    return Entry(
        file=printable(str(file)),
        answer=answer,
        set=chosen,
        probabilities={label: float(row[f"p_{label}"]) for label in classes},
        uncalibrated={label: float(row[f"raw_{label}"]) for label in classes},
        finding=bool(row["finding"]),
        out_of_distribution=bool(row["unusual"]),
        novelty=float(row["novelty"]),
        warnings=[UNUSUAL] if row["unusual"] else [],
        heat_map=None if heat_map is None else printable(str(heat_map)),
    )
