"""Image quality, picture by picture: light, colour, sharpness, exposure, borders, text, and what the file's compression tells."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin
from skimage.color import rgb2gray, rgb2lab
from skimage.filters import laplace
from skimage.measure import blur_effect

from mpox.audit.captions import text_lines
from mpox.audit.measuring import measured
from mpox.pictures import read_rgb

#: Raised by one whenever the numbers of an unchanged picture change.
VERSION = 1
#: Side in pixels of the square to which a picture is brought for the four plain statistics.
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
    """Quality of every picture of a manifest.

    Watermarks are not looked for: faint, half-transparent marks need the unmarked picture to be told from skin.

    Parameters
    ----------
    manifest : DataFrame
        See `mpox.manifest.build_manifest`; the pictures must be on this machine.
    jobs : int, optional
        Processes; all cores by default.
    progress : bool

    Returns
    -------
    DataFrame
        One row an image, in the manifest's order: ``dataset``, ``image_id``, ``label``;

        - of the picture squashed to 224 x 224 pixels: ``lightness`` (mean CIELAB L*, 0 to 100), ``contrast`` (standard deviation
          of L*), ``chroma`` (mean CIELAB chroma, 0 to about 130), ``sharpness`` (standard deviation of the Laplacian of the grey
          picture, grey from 0 to 1);
        - without its borders: ``blur`` (0 sharp to 1 blurred: how little a further blur changes, Crete et al. 2007, on a long
          side of at most 512 pixels; a ratio, so that contrast and size matter little), ``clipped_dark`` and
          ``clipped_bright`` (shares of black and of white pixels, 0 to 1);
        - ``border_left``, ``border_top``, ``border_right``, ``border_bottom`` (shares of width or height that are plain
          borders, 0 to 0.45) and ``border`` (their share of the area, 0 to 1);
        - ``text_lines`` (int, see `mpox.audit.captions.text_lines`);
        - ``file_bytes`` (int), ``bytes_per_pixel``, ``jpeg_quality`` (1 to 100 on the scale of the Independent JPEG Group;
          missing where the file is no JPEG).

    Raises
    ------
    MpoxError
        If the pictures are not on this machine, or one cannot be read any more.
    """
    table = measured(manifest, quality_of, f"quality-{VERSION}", jobs=jobs, progress=progress)
    return table.astype({"jpeg_quality": "float64"})


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
    """How deep plain borders reach into a picture.

    A border starts at the picture's edge. Its lines have one colour (97 % of their pixels within 14 levels a channel of it), but
    for a gap of at most 15 % of the side where letters stand in it. It ends in a straight edge: within the next eight lines (a
    block of JPEG) at least half of the pixels take another colour, all at once. A plain background that an arm grows out of is
    no border; of 50 pictures of MSLD v1 and MSID with a border by this rule, some ten were a studio's background, by eye.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    tuple of int
        Pixels of the left, top, right and bottom border.

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
    """The quality setting that a JPEG file's luminance table stands for, 1 to 100; ``None`` where the file is no JPEG.

    The table is held against the standard's, scaled as the library of the Independent JPEG Group does it. Other programs have
    other tables and other scales, and a file that was compressed twice shows only the last setting.
    """
    with Image.open(path) as picture:
        if not isinstance(picture, JpegImagePlugin.JpegImageFile) or not picture.quantization:
            return None
        table = np.array(picture.quantization[min(picture.quantization)], float)
    scale = 100 * np.median(table / _LUMINANCE)
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 1, 100))
