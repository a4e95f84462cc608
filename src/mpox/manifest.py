"""From a folder of pictures to the manifest: one table row an image. Nothing downstream walks folders."""

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from mpox.datasets import LABEL_ALIASES, REGISTRY, get_spec, locate
from mpox.errors import MpoxError

COLUMNS = [
    "image_id", "path", "sha256", "pixel_sha256", "width", "height", "label", "patient_id", "source",
]  # fmt: skip
EXTENSIONS = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
#: A picture above this many pixels is rejected before it is decoded (a decompression bomb, or a scan to be reduced first).
MAX_PIXELS = 100_000_000


def read_rgb(path: str | Path) -> Image.Image:
    """Decode a picture as upright RGB: EXIF orientation applied, alpha laid over white, 16-bit and palettes converted.

    Raises
    ------
    MpoxError
        If the file is no picture, is cut short, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise MpoxError(
                        f"{Path(path).name} has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,}: reduce it."
                    )
                picture = ImageOps.exif_transpose(picture)
                if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
                    values = np.asarray(picture, dtype=np.float32)
                    scale = 65535 if values.max() > 255 else 255
                    picture = Image.fromarray((values / scale * 255).clip(0, 255).astype(np.uint8))
                if picture.has_transparency_data:
                    picture = picture.convert("RGBA")
                    white = Image.new("RGBA", picture.size, "white")
                    picture = Image.alpha_composite(white, picture)
                return picture.convert("RGB")
    except MpoxError:
        raise
    except Image.DecompressionBombError as error:
        raise MpoxError(f"{Path(path).name} is too large to be decoded safely: reduce it.") from error
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        reason = str(error).replace(str(path), Path(path).name)
        raise MpoxError(f"{Path(path).name} cannot be read as a picture ({reason}): replace or remove it.") from error


def _class_folders(root: Path, folders: tuple[str, ...]) -> list[Path]:
    if folders:
        missing = [name for name in folders if not (root / name).is_dir()]
        if missing:
            raise MpoxError(
                f"{root} lacks the class folders {', '.join(missing)}: the data set is incomplete, fetch or copy it again."
            )
        return [root / name for name in folders]
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def _msld_v2_folders(root: Path) -> list[Path]:
    """MSLD v2 ships five folds; the test parts of all folds hold every original picture once."""
    base = next(root.glob("**/FOLDS"), None)
    if base is None:
        return _class_folders(root, ())
    return sorted(folder for folder in base.glob("fold*/Test/*") if folder.is_dir())


def build_manifest(name: str | Path, *, data_dir: str | Path | None = None) -> pd.DataFrame:
    """Turn a data set into its manifest.

    Parameters
    ----------
    name : str or path
        A registered data set, or a folder with one sub-folder a class.
    data_dir : path, optional
        Where data sets are looked for first (see `mpox.paths.data_roots`).

    Returns
    -------
    DataFrame
        One row an image, sorted by ``image_id`` (posix path below the data set's folder): ``path`` (absolute), ``sha256`` of
        the file, ``pixel_sha256`` of the decoded RGB pixels, ``width`` and ``height`` (pixels, int64), ``label``,
        ``patient_id`` (``<NA>`` where names do not tell), ``source`` (the data set's name). Files that could not be used are
        listed in ``attrs["rejected"]`` as ``(image_id, reason)``.

    Raises
    ------
    MpoxError
        If the data set is missing, a class is empty, or fewer than two classes are left.
    """
    spec = get_spec(name)
    root = locate(name, data_dir=data_dir)
    folders = _msld_v2_folders(root) if spec.name == "msld-v2" else _class_folders(root, spec.folders)
    pattern = re.compile(spec.patient_pattern) if spec.patient_pattern else None
    source = spec.name if spec.name in REGISTRY else "phantom" if spec.is_phantom else root.resolve().name
    if source in REGISTRY and spec.name not in REGISTRY and not spec.is_phantom:
        source = f"folder-{source}"
    rows, rejected, empty = [], [], []
    for folder in folders:
        label = LABEL_ALIASES.get(folder.name.lower(), folder.name)
        before = len(rows)
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name.startswith("."):
                continue
            image_id = path.relative_to(root).as_posix()
            if path.suffix.lower() not in EXTENSIONS:
                rejected.append((image_id, f"extension {path.suffix or '(none)'} is not one of a picture"))
                continue
            try:
                picture = read_rgb(path)
            except MpoxError as error:
                rejected.append((image_id, str(error)))
                continue
            match = pattern.match(path.stem) if pattern else None
            rows.append(
                {
                    "image_id": image_id,
                    "path": str(path.resolve()),
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "pixel_sha256": hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest(),
                    "width": picture.width,
                    "height": picture.height,
                    "label": label,
                    "patient_id": match["patient"] if match else None,
                    "source": source,
                }
            )
        if len(rows) == before:
            empty.append(folder.name)
    if empty:
        raise MpoxError(f"No readable picture in the class folder(s) {', '.join(empty)} of {root}: fill or remove them.")
    if len({row["label"] for row in rows}) < 2:
        raise MpoxError(f"{root} has fewer than two classes: put the pictures in one sub-folder a class.")
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values("image_id", ignore_index=True)
    frame["patient_id"] = frame["patient_id"].astype("string")
    frame.attrs["rejected"] = rejected
    return frame


def manifest_hash(manifest: pd.DataFrame) -> str:
    """Sixteen hex digits that stand for the pictures, labels and patients of a manifest, wherever the files lie."""
    columns = ["image_id", "pixel_sha256", "label", "patient_id"]
    text = manifest[columns].sort_values("image_id").to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
