"""Where the lesions may be: a map from one picture's colours alone, without learning.

A lesion is redder than the skin around it, and its redness and lightness change within its own length: rim, centre, crust, shine.
Three measures, all in CIELAB, add up to the response of a pixel:

- *unevenness of redness*: the local root mean square of a* between two blurs (a difference of Gaussians, as blob detectors have
  it; Lindeberg 1998), in CIELAB units;
- *unevenness of lightness*: the same of L*, in multiples of the picture's median;
- *redness*: a* above that of the main skin (its lower third: a rash may cover half of a picture), in CIELAB units.

A picture that is unevenly red all over needs more: above a usual level, redness counts relative to the picture's own. Weights
and heights were set on one phantom, and the usual levels so that on photographs not everything is covered; how the map does is
reported on another phantom (chapter 6). It serves to cover lesions, so that it leans to covering too much: what stays uncovered
leaks. It takes moles, lips, hair, folds and shadows for lesions, and it knows nothing of disease.
"""

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold

#: Raised by one whenever the map of an unchanged picture changes.
VERSION = 1
#: Seed of the phantom on which weights and heights were set; results are reported on another.
SET_ON = 0
#: Blurs in shares of the picture's side: pairs of a difference, and where its square is averaged.
_REDNESS_BAND, _LIGHTNESS_BAND, _AROUND = (0.012, 0.024), (0.006, 0.012), 0.018
_SMOOTH = 0.009
#: Weight of each measure in the response.
_WEIGHTS = {"uneven_redness": 3.0, "uneven_lightness": 1.9, "above_skin": 0.45}
#: Usual levels in CIELAB units: the median unevenness of redness, and the robust deviation of the redness of a picture's skin.
_USUAL_UNEVENNESS, _USUAL_DEVIATION = 0.35, 2.5
#: A pixel is lesion from the first height on if it is linked to one of the second.
HEIGHTS = (3.4, 4.4)
_MAIN_SKIN = 0.35  # quantile of a*
_SMALLEST = 0.0004  # of the area
_HUES, _CHROMA = (-25.0, 100.0), 5.0  # what may be skin or rash: degrees and least chroma, CIELAB


def to_lab(picture: np.ndarray) -> np.ndarray:
    """CIELAB (D65), float32 of the same shape, of an RGB picture of uint8, read as sRGB."""
    return cv2.cvtColor(np.ascontiguousarray(picture, dtype=np.float32) / 255, cv2.COLOR_RGB2LAB)


def skin_coloured(lab: np.ndarray) -> np.ndarray:
    """Pixels with the hue of skin or of a rash upon it, bool of shape (height, width): smoothed, and small gaps closed."""
    side = max(lab.shape[:2])
    smooth = cv2.GaussianBlur(lab, (0, 0), max(0.006 * side, 0.5))
    hue = np.degrees(np.arctan2(smooth[..., 2], smooth[..., 1]))
    found = (hue >= _HUES[0]) & (hue <= _HUES[1]) & (np.hypot(smooth[..., 1], smooth[..., 2]) >= _CHROMA)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(round(0.02 * side), 1) + 1,) * 2)
    return cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)


def lesion_response(picture: np.ndarray) -> np.ndarray:
    """How much each pixel looks like part of a lesion: float32 of shape (height, width), 0 where there is no skin.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        RGB.
    """
    lab = to_lab(picture)
    skin = skin_coloured(lab)
    if not skin.any():
        return np.zeros(skin.shape, np.float32)
    side = max(skin.shape)
    redness, lightness, weight = lab[..., 1], lab[..., 0], skin.astype(np.float32)
    smooth = _mean_over(redness, weight, _SMOOTH * side)
    uneven_redness = _unevenness(redness, weight, _REDNESS_BAND, side)
    uneven_lightness = _unevenness(lightness, weight, _LIGHTNESS_BAND, side)
    above_skin = smooth - np.quantile(smooth[skin], _MAIN_SKIN)
    deviation = 1.4826 * np.median(np.abs(smooth[skin] - np.median(smooth[skin])))
    measures = {
        "uneven_redness": uneven_redness / max(np.median(uneven_redness[skin]) / _USUAL_UNEVENNESS, 1),
        "uneven_lightness": uneven_lightness / max(np.median(uneven_lightness[skin]), 0.1),
        "above_skin": above_skin / max(deviation / _USUAL_DEVIATION, 1),
    }
    response = sum(_WEIGHTS[name] * values for name, values in measures.items())
    return np.where(skin, response, 0).astype(np.float32)


def _mean_over(channel: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean of a channel over the pixels that have weight."""
    return cv2.GaussianBlur(channel * weight, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)


def _unevenness(channel: np.ndarray, weight: np.ndarray, band: tuple[float, float], side: int) -> np.ndarray:
    change = _mean_over(channel, weight, band[0] * side) - _mean_over(channel, weight, band[1] * side)
    return np.sqrt(_mean_over(change**2, weight, _AROUND * side))


def lesion_map(picture: np.ndarray) -> np.ndarray:
    """The pixels that may be lesion.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        RGB.

    Returns
    -------
    ndarray of bool, shape (height, width)
        Holes filled, specks removed; the same for the same picture.

    Examples
    --------
    >>> picture = np.full((64, 64, 3), (214, 170, 145), np.uint8)
    >>> picture[28:36, 28:36] = (170, 80, 80)
    >>> found = lesion_map(picture)
    >>> bool(found[32, 32]), bool(found[4, 4])
    (True, False)
    """
    cv2.setNumThreads(1)
    found = apply_hysteresis_threshold(lesion_response(picture), *HEIGHTS)
    found = ndimage.binary_fill_holes(found)
    pieces, n_pieces = ndimage.label(found, np.ones((3, 3)))
    large = np.bincount(pieces.ravel(), minlength=n_pieces + 1) >= max(_SMALLEST * found.size, 4)
    large[0] = False
    return large[pieces]
