"""Predictions of picture files for people and programs: one entry a picture, as JSON, CSV or an aligned table."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image
from tqdm.auto import tqdm

from mpox.conformal import NOTHING
from mpox.errors import MpoxError
from mpox.paths import replacing
from mpox.pictures import EXTENSIONS, UnusablePicture, printable, read_rgb
from mpox.predictor import AIM, BATCH, NOTICE, Predictor, read_square

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
