"""What is measured on each image: blur, exposure, borders, captions, skin tone."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin
from skimage.color import rgb2gray, rgb2lab
from skimage.filters import laplace
from skimage.measure import blur_effect

from mpox._core import MpoxError, atomic_write, cache_dir
from mpox.audit.features import parallel
from mpox.data.pictures import read_rgb
from mpox.data.skintone import SKIN_TONE_VERSION, ita_class, tone

#: The columns that say which image a row is about.
IDENTITY = ["dataset", "image_id", "label"]


def _read(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # absent or damaged: measured anew
        return None
    return found if isinstance(found, dict) else None


def _measure(function: Callable[[str], dict], kept: Path, path: str) -> dict:
    found = function(path)
    atomic_write(kept, json.dumps(found))
    return found


def measured(
    manifest: pd.DataFrame, function: Callable[[str], dict], name: str, *, jobs: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """Apply a function to every file of a manifest; what is known of a file that is decoded alike is read from the cache."""
    if manifest["path"].isna().any():
        raise MpoxError("Images can be measured only where they are: name their folder with --data-dir or MPOX_DATA.")
    keys = manifest["sha256"] + "-" + manifest["pixel_sha256"].str[:16]
    paths = dict(zip(keys, manifest["path"], strict=True))
    kept = {key: cache_dir() / "audit" / name / key[:2] / f"{key}.json" for key in paths}
    found = {key: _read(file) for key, file in kept.items()}
    missing = [key for key, known in found.items() if known is None]
    work = [(function, kept[key], paths[key]) for key in missing]
    found |= dict(zip(missing, parallel(_measure, work, title=name, jobs=jobs, progress=progress), strict=True))
    identity = manifest[["source", "image_id", "label"]].set_axis(IDENTITY, axis=1).reset_index(drop=True)
    return identity.join(pd.DataFrame([found[key] for key in keys]))


#: Long side in pixels to which a image is brought before letters are sought.
SIDE = 672
_HEIGHTS = (7, 90)  # pixels of a letter at that size
_MIN_LETTERS = 5


def _letters(grey: np.ndarray) -> np.ndarray:
    """Boxes (x, y, width, height) and contrast of the stable regions that could be letters, shape (n, 5)."""
    height, width = grey.shape
    mser = cv2.MSER.create(delta=12, min_area=18, max_area=4000, max_variation=0.35)
    regions, boxes = mser.detectRegions(grey)
    rows = []
    for region, (x, y, w, h) in zip(regions, boxes, strict=True):
        points = np.asarray(region)
        if not (_HEIGHTS[0] <= h <= _HEIGHTS[1]) or not 0.12 <= w / h <= 2.2:
            continue
        fill = len(points) / (w * h)
        if not 0.15 <= fill <= 0.95:
            continue
        inside = grey[points[:, 1], points[:, 0]]
        x0, y0, x1, y1 = max(x - 2, 0), max(y - 2, 0), min(x + w + 2, width), min(y + h + 2, height)
        rim = np.concatenate([grey[y0, x0:x1], grey[y1 - 1, x0:x1], grey[y0:y1, x0], grey[y0:y1, x1 - 1]])
        contrast = float(np.median(inside)) - float(np.median(rim))
        if abs(contrast) < 45 or inside.std() > 30:
            continue
        rows.append((x, y, w, h, contrast))
    return np.array(rows, float).reshape(-1, 5)


def _distinct(letters: np.ndarray) -> np.ndarray:
    """One of each set of nested regions: the same letter is stable at several thresholds."""
    order = np.argsort(-letters[:, 2] * letters[:, 3], kind="stable")
    kept: list[np.ndarray] = []
    for row in letters[order]:
        x, y, w, h, _ = row
        for other in kept:
            across = min(x + w, other[0] + other[2]) - max(x, other[0])
            down = min(y + h, other[1] + other[3]) - max(y, other[1])
            if across > 0 and down > 0 and across * down > 0.5 * w * h:
                break
        else:
            kept.append(row)
    return np.array(kept).reshape(-1, 5)


def text_lines(picture: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Boxes of what looks like a horizontal line of letters. Letters are maximally stable extremal regions (Matas et al. 2002,
    BMVC) that stand out from their surroundings; a line is five or more of one polarity and similar height, side by side on
    one base line."""
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    size = (max(round(width * factor), 8), max(round(height * factor), 8))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    letters = _letters(grey)
    lines = []
    for sign in (-1, 1):
        found = _distinct(letters[np.sign(letters[:, 4]) == sign])
        for x, y, w, h, _ in (line.T for line in _rows_of_letters(found)):
            lines.append((x.min() / size[0], y.min() / size[1], (x + w).max() / size[0], (y + h).max() / size[1]))
    return lines


def _rows_of_letters(letters: np.ndarray) -> list[np.ndarray]:
    """Chains of neighbouring letters, left to right."""
    letters = letters[np.argsort(letters[:, 0], kind="stable")]
    chain = np.arange(len(letters))
    for i, (x, y, w, h, contrast) in enumerate(letters):
        for j in range(i + 1, len(letters)):
            x2, y2, w2, h2, contrast2 = letters[j]
            gap = x2 - (x + w)
            if gap > 1.4 * max(h, h2):
                continue
            level = min(abs((y + h) - (y2 + h2)), abs(y + h / 2 - y2 - h2 / 2))
            alike = max(h, h2) < 1.9 * min(h, h2) and abs(contrast - contrast2) < 0.5 * max(abs(contrast), abs(contrast2))
            if gap > -0.4 * min(w, w2) and level < 0.22 * max(h, h2) and alike:
                chain[chain == chain[j]] = chain[i]
    lines = []
    for name in np.unique(chain):
        line = letters[chain == name]
        spread = line[:, 0].max() - line[:, 0].min()
        if len(line) >= _MIN_LETTERS and spread > 3.0 * np.median(line[:, 3]) and _is_straight(line):
            lines.append(line)
    return lines


def _is_straight(line: np.ndarray) -> bool:
    """Whether the letters stand on one horizontal line, and are spaced and sized as letters are."""
    bottom = line[:, 1] + line[:, 3]
    height = np.median(line[:, 3])
    return bool(np.median(np.abs(bottom - np.median(bottom))) < 0.15 * height and np.ptp(np.log(line[:, 3])) < np.log(3.2))


#: Raised by one whenever the numbers of an unchanged image change.
QUALITY_VERSION = 1
#: Side in pixels of the square to which a image is brought for the four plain statistics.
STATISTICS_SIDE = 224
_BLUR_SIDE = 512
_DARK, _BRIGHT = 2, 253  # a pixel is clipped when no channel is above, or none below
_TOLERANCE = 14  # grey levels a channel: what JPEG does to a plain colour
_PLAIN = 0.97  # share of a line's pixels that have the border's colour
_EDGE = 0.5  # share of the pixels that change at the edge of a border
_BLOCK = 8  # lines: what lies next to an edge in JPEG is mixed with what lies behind it
_DEEPEST = 0.45  # of a side; a border that goes further is no border
SIDES = ("left", "top", "right", "bottom")
#: The luminance table of the JPEG standard (ITU T.81, annex K), row by row.
_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
     14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
     49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)  # fmt: skip


def image_quality(manifest: pd.DataFrame, *, jobs: int | None = None, progress: bool = True) -> pd.DataFrame:
    """Quality of every image of a manifest.

    Watermarks are not looked for: faint, half-transparent marks need the unmarked image to be told from skin. `jobs` is the
    number of processes, all cores by default. An `MpoxError` if the images are not on this machine, or cannot be read any more.

    Returns
    -------
    DataFrame
        One row an image, in the manifest's order: ``dataset``, ``image_id``, ``label``;

        - of the image squashed to 224 x 224 pixels: ``lightness`` (mean CIELAB L*, 0 to 100), ``contrast`` (standard deviation
          of L*), ``chroma`` (mean CIELAB chroma, 0 to about 130), ``sharpness`` (standard deviation of the Laplacian of the grey
          image, grey from 0 to 1);
        - without its borders: ``blur`` (0 sharp to 1 blurred: how little a further blur changes, Crete et al. 2007, on a long
          side of at most 512 pixels; a ratio, so that contrast and size matter little), ``clipped_dark`` and
          ``clipped_bright`` (shares of black and of white pixels, 0 to 1);
        - ``border_left``, ``border_top``, ``border_right``, ``border_bottom`` (shares of width or height that are plain
          borders, 0 to 0.45) and ``border`` (their share of the area, 0 to 1);
        - ``text_lines`` (int, see `mpox.audit.quality.text_lines`);
        - ``file_bytes`` (int), ``bytes_per_pixel``, ``jpeg_quality`` (1 to 100 on the scale of the Independent JPEG Group;
          missing where the file is no JPEG);
        - ``colour_profile``: what the file says of its colours, and whether they were converted to sRGB or it was ignored, see
          `mpox.data.pictures.read_rgb`; missing where it says nothing.
    """
    table = measured(manifest, quality_of, f"quality-{QUALITY_VERSION}", jobs=jobs, progress=progress)
    return table.astype({"jpeg_quality": "float64", "colour_profile": "string"})


def quality_of(path: str) -> dict:
    """The numbers of one file, see `image_quality`."""
    cv2.setNumThreads(1)
    picture = read_rgb(path)
    pixels = np.asarray(picture)
    small = np.asarray(picture.resize((STATISTICS_SIDE, STATISTICS_SIDE), Image.Resampling.BICUBIC))
    lab = rgb2lab(small)
    borders = plain_borders(pixels)
    height, width = pixels.shape[:2]
    inner = pixels[borders[1] : height - borders[3], borders[0] : width - borders[2]]
    size = Path(path).stat().st_size
    values = {
        "lightness": lab[..., 0].mean(),
        "contrast": lab[..., 0].std(),
        "chroma": np.hypot(lab[..., 1], lab[..., 2]).mean(),
        "sharpness": laplace(rgb2gray(small)).std(),
        "blur": _blur(inner),
        "clipped_dark": (inner.max(axis=2) <= _DARK).mean(),
        "clipped_bright": (inner.min(axis=2) >= _BRIGHT).mean(),
        **{
            f"border_{side}": pixels_deep / length
            for side, pixels_deep, length in zip(SIDES, borders, (width, height) * 2, strict=True)
        },
        "border": 1 - inner.shape[0] * inner.shape[1] / (height * width),
    }
    return {name: round(float(value), 4) for name, value in values.items()} | {
        "text_lines": len(text_lines(pixels)),
        "file_bytes": size,
        "bytes_per_pixel": round(size / (height * width), 4),
        "jpeg_quality": jpeg_quality(path),
        "colour_profile": picture.info.get("colour_profile"),
    }


def _blur(pixels: np.ndarray) -> float:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    factor = _BLUR_SIDE / max(grey.shape)
    if factor < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    if min(grey.shape) < 16 or grey.std() < 1:
        return 1.0  # nothing in it has an edge
    return blur_effect(grey)


def plain_borders(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """How deep plain borders reach into a image.

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    >>> picture[:, :8] = 250
    >>> plain_borders(picture)
    (8, 0, 0, 0)
    """
    height, width = pixels.shape[:2]
    limit = {"left": _DEEPEST * width, "right": _DEEPEST * width, "top": _DEEPEST * height, "bottom": _DEEPEST * height}
    depth = dict.fromkeys(SIDES, 0)
    for _ in range(3):  # a border may lie within another one, and hide it
        before = dict(depth)
        for side in ("top", "bottom", "left", "right"):
            inner = pixels[depth["top"] : height - depth["bottom"], depth["left"] : width - depth["right"]]
            lines = {"top": inner, "bottom": inner[::-1], "left": inner.swapaxes(0, 1), "right": inner[:, ::-1].swapaxes(0, 1)}
            found = _border_depth(lines[side])
            if depth[side] + found <= limit[side]:
                depth[side] += found
        if depth == before:
            break
    return depth["left"], depth["top"], depth["right"], depth["bottom"]


def _border_depth(lines: np.ndarray) -> int:
    """How many of the first lines, shape (n, length, 3), are a border."""
    if min(lines.shape[:2]) < 16:
        return 0
    first = np.median(lines[0], axis=0)
    alike = (np.abs(lines.astype(np.int16) - first) <= _TOLERANCE).all(axis=2).mean(axis=1)
    plain = alike >= _PLAIN
    longest_gap = max(2, round(0.15 * len(lines)))
    depth, line = 0, 0
    while line < len(lines) and line - depth <= longest_gap:
        line += 1
        if plain[line - 1]:
            depth = line
    if depth == 0 or depth > len(lines) - 8:
        return 0
    behind = alike[depth : depth + _BLOCK] < 1 - _EDGE
    edge = depth + int(behind.argmax())
    step = np.abs(lines[min(edge + 1, len(lines) - 1)].astype(np.int16) - lines[edge - 1]).max(axis=1) > _TOLERANCE
    return edge if behind.any() and step.mean() >= _EDGE else 0


def jpeg_quality(path: str | Path) -> int | None:
    """The quality setting that a JPEG file's luminance table stands for, 1 to 100; ``None`` where the file is no JPEG."""
    with Image.open(path) as picture:
        if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not picture.quantization:
            return None
        table = np.array(picture.quantization[min(picture.quantization)], float)
    scale = 100 * np.median(table / _LUMINANCE)
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 1, 100))


def skin_tone(manifest: pd.DataFrame, *, jobs: int | None = None, progress: bool = True) -> pd.DataFrame:
    """Skin tone of every image of a manifest, in its order; arguments and errors as for `image_quality`.

    Returns ``dataset``, ``image_id``, ``label``, ``skin`` (share of the image that was taken for healthy skin, 0 to 1), ``ita``
    (degrees, -90 to 90; missing where there is none), ``ita_class``, ``reason`` (why there is no angle).
    """
    table = measured(manifest, _tone_of, f"skin-tone-{SKIN_TONE_VERSION}", jobs=jobs, progress=progress)
    table = table.astype({"ita": "float64"})
    table.insert(5, "ita_class", [ita_class(ita) for ita in table["ita"]])
    return table


def _tone_of(path: str) -> dict:
    return tone(np.asarray(read_rgb(path)))
