"""Skin tone as the individual typology angle (ITA), image by image.

ITA = arctan((L* - 50) / b*) in degrees, in CIELAB for the white point D65 and the 2 degree observer, computed from the
picture's values read as sRGB (Chardon, Cretois and Hourseau 1991, Int J Cosmet Sci 13, 191-208). The classes are those of
Del Bino and Bernerd (2013, Br J Dermatol 169 Suppl 3, 33-40).

The angle gives a coarse order of the images of one set from dark to light skin. It does not tell the skin of a person: light,
white balance, exposure, camera and compression move it by ten degrees and more, and body sites are not known. It is neither
ethnicity nor the Fitzpatrick type, which is about burning and tanning.
"""

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

#: Raised by one whenever the angle of an unchanged image changes.
SKIN_TONE_VERSION = 1
#: Classes and the angle in degrees above which they begin, from light to dark.
CLASSES = {"very light": 55.0, "light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -90.0}
#: Share of the image that has to be skin for an angle to be given.
LEAST_SKIN = 0.1
_SIDE = 192
_HUES = (10.0, 88.0)  # degrees, CIELAB: from red to yellow
_CHROMAS = (4.0, 48.0)
_LIGHTNESSES = (8.0, 96.0)


def ita_degrees(lightness: float | np.ndarray, b: float | np.ndarray) -> float | np.ndarray:
    """Individual typology angle in degrees from CIELAB L* (0 to 100) and b* (positive, as skin's is).

    Examples
    --------
    >>> round(float(ita_degrees(65.0, 15.0)), 1)
    45.0
    """
    return np.degrees(np.arctan2(np.asarray(lightness) - 50.0, b))


def ita_class(ita: float) -> str | None:
    """The class of an angle in degrees; ``None`` where there is no angle.

    Examples
    --------
    >>> ita_class(30.0), ita_class(-45.0)
    ('intermediate', 'dark')
    """
    return None if np.isnan(ita) else next(name for name, limit in CLASSES.items() if ita > limit or limit == -90.0)


def tone(pixels: np.ndarray, *, drop_lesions: bool = True) -> dict:
    """Skin tone of one RGB image, uint8 of shape (height, width, 3).

    1. Candidates: pixels with the hue of skin (CIELAB hue angle 10 to 88 degrees, chroma 4 to 48, L* 8 to 96), on a long side
       of 192 pixels.
    2. Lesions, shadows, highlights and what else differs from the main skin are dropped, three times over: kept is what lies
       within 1.5 robust deviations of the candidates' median L* and b*, and not more than one above their median a* (lesions are
       redder or darker than the skin around them). `drop_lesions=False` leaves this out, to see what it is worth.
    3. The angle is that of the rest's median L* and b*. If less than a tenth of the image is left, there is none.

    Returns ``skin`` (share), ``ita`` (degrees or ``None``), ``reason`` (or ``None``).
    """
    skin, share, reason = _healthy_skin(pixels, drop_lesions)
    if reason:
        return {"skin": share, "ita": None, "reason": reason}
    lightness, _, b = np.median(skin, axis=0)
    return {"skin": share, "ita": round(float(ita_degrees(lightness, b)), 2), "reason": None}


def tone_of_skin(pixels: np.ndarray) -> np.ndarray | None:
    """Median CIELAB L*, a*, b* of the healthy skin that `tone` finds; ``None`` where it finds no angle."""
    skin, _, reason = _healthy_skin(pixels, drop_lesions=True)
    return None if reason else np.median(skin, axis=0)


def _healthy_skin(pixels: np.ndarray, drop_lesions: bool) -> tuple[np.ndarray, float, str | None]:
    """The pixels of healthy skin in CIELAB, shape (n, 3), their share of the image, and why they are too few (or None)."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    lab = rgb2lab(np.asarray(picture)).reshape(-1, 3)
    hue, chroma = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])), np.hypot(lab[:, 1], lab[:, 2])
    inside = [_within(hue, _HUES), _within(chroma, _CHROMAS), _within(lab[:, 0], _LIGHTNESSES)]
    skin = lab[np.logical_and.reduce(inside)]
    if chroma.max(initial=0) < _CHROMAS[0]:
        return skin, 0.0, "the picture has no colour"
    if drop_lesions:
        for _ in range(3):
            skin = skin[_main_skin(skin)] if len(skin) else skin
    share = round(len(skin) / len(lab), 4)
    return skin, share, "less than a tenth of the picture is skin" if share < LEAST_SKIN else None


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values >= limits[0]) & (values <= limits[1])


def _main_skin(lab: np.ndarray) -> np.ndarray:
    middle = np.median(lab, axis=0)
    away = lab - middle
    spread = np.maximum(1.4826 * np.median(np.abs(away), axis=0), 1.0)
    return (np.abs(away[:, 0]) <= 1.5 * spread[0]) & (np.abs(away[:, 2]) <= 1.5 * spread[2]) & (away[:, 1] <= spread[1])
