"""What goes wrong with a picture on its way to a model, in families of five strengths; and harmless transforms.

After the corruption benchmark of Hendrycks and Dietterich (2019), with families that a consulting room and a web page know. Every
function takes and gives a square picture of uint8, RGB. Lengths are in pixels of a side of 224 and grow with the side. Where a
direction or a place is open (brighter or darker, warmer or colder, where the patch lies) the picture's own hash chooses.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from mpox.errors import MpoxError

#: Raised by one whenever the corrupted copy of an unchanged picture changes.
VERSION = 1
STRENGTHS = (1, 2, 3, 4, 5)
#: Family to what its number means, and the number at each strength.
SEVERITIES = {
    "blur": ("standard deviation of a Gaussian, pixels at a side of 224", (0.7, 1.2, 2.0, 3.2, 5.0)),
    "noise": ("standard deviation of Gaussian noise, grey levels", (6, 12, 20, 32, 48)),
    "jpeg": ("JPEG quality", (50, 30, 18, 10, 5)),
    "exposure": ("stops of light, more or less", (0.3, 0.6, 1.0, 1.5, 2.0)),
    "white_balance": ("stops between red and blue, either way", (0.2, 0.4, 0.7, 1.0, 1.4)),
    "occlusion": ("share of the area under one grey square", (0.05, 0.1, 0.2, 0.3, 0.4)),
    "downscaling": ("factor by which width and height are reduced", (2, 3, 4.5, 7, 10)),
}
#: Transforms that leave the finding what it is.
TRANSFORMS = {
    "mirrored": "left and right exchanged",
    "upside_down": "top and bottom exchanged",
    "crop_90": "a square of 90 % of the side at a random place, blown up",
    "crop_75": "a square of 75 % of the side at a random place, blown up",
}


def severity_table() -> pd.DataFrame:
    """The number behind each family and strength: ``family``, ``meaning``, and one column a strength."""
    return pd.DataFrame([(name, meaning, *numbers) for name, (meaning, numbers) in SEVERITIES.items()]).set_axis(
        ["family", "meaning", *map(str, STRENGTHS)], axis=1
    )


def _blur(picture, number, rng):
    return cv2.GaussianBlur(picture, (0, 0), number * len(picture) / 224)


def _noise(picture, number, rng):
    return _to_uint8(picture + rng.normal(0, number, picture.shape))


def _jpeg(picture, number, rng):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=number)
    return np.asarray(Image.open(stream).convert("RGB"))


def _exposure(picture, number, rng):
    return _encode(_decode(picture) * 2.0 ** (number * rng.choice([-1, 1])))


def _white_balance(picture, number, rng):
    red = number / 2 * rng.choice([-1, 1])
    return _encode(_decode(picture) * 2.0 ** np.array([red, 0, -red]))


def _occlusion(picture, number, rng):
    side = round(len(picture) * number**0.5)
    row, column = rng.integers(0, len(picture) - side + 1, 2)
    covered = picture.copy()
    covered[row : row + side, column : column + side] = 128
    return covered


def _downscaling(picture, number, rng):
    side = max(round(len(picture) / number), 1)
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.shape[:2], Image.Resampling.BILINEAR))


_FAMILIES: dict[str, Callable] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "exposure": _exposure,
    "white_balance": _white_balance,
    "occlusion": _occlusion,
    "downscaling": _downscaling,
}


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _decode(picture: np.ndarray) -> np.ndarray:
    """sRGB levels to linear light from 0 to 1 (IEC 61966-2-1)."""
    value = picture / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return _to_uint8(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def corrupt(picture: np.ndarray, family: str, strength: int, *, seed: int = 0) -> np.ndarray:
    """A picture corrupted.

    Parameters
    ----------
    picture : ndarray of uint8, shape (size, size, 3)
        RGB.
    family : str
        See `SEVERITIES`.
    strength : int
        1 (mild) to 5 (severe).
    seed : int
        The same gives the same copy. Choices that are open fall alike at every strength of a family.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Raises
    ------
    MpoxError
        If there is no such family or strength.

    Examples
    --------
    >>> picture = np.zeros((32, 32, 3), np.uint8)
    >>> int((corrupt(picture, "occlusion", 3) == 128).all(axis=2).sum())
    196
    """
    if family not in SEVERITIES or strength not in STRENGTHS:
        known = f"{', '.join(SEVERITIES)}, at strengths 1 to 5"
        raise MpoxError(f"There is no corruption '{family}' of strength {strength}: choose one of {known}.")
    return _FAMILIES[family](picture, SEVERITIES[family][1][strength - 1], np.random.default_rng(seed))


def transform(picture: np.ndarray, name: str, *, seed: int = 0) -> np.ndarray:
    """A picture transformed harmlessly, see `TRANSFORMS`; arguments and result as for `corrupt`."""
    if name not in TRANSFORMS:
        raise MpoxError(f"There is no transform '{name}': choose one of {', '.join(TRANSFORMS)}.")
    if name == "mirrored":
        return np.ascontiguousarray(picture[:, ::-1])
    if name == "upside_down":
        return np.ascontiguousarray(picture[::-1])
    size = len(picture)
    side = round(size * int(name.removeprefix("crop_")) / 100)
    row, column = np.random.default_rng(seed).integers(0, size - side + 1, 2)
    part = Image.fromarray(picture[row : row + side, column : column + side])
    return np.asarray(part.resize((size, size), Image.Resampling.BICUBIC))
