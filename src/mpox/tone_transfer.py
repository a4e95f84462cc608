"""The same skin in another tone: what is skin moves to a drawn typology angle, and lesions keep their contrast.

The individual typology angle is the angle of (b*, L* - 50) in CIELAB (`mpox.audit.skintone`). The median of the healthy skin is
turned about (0, 50) to the new angle; the shift in L* and b* that this takes is added to all that has the colour of skin, lesions
included, so that differences within the skin stay what they are. Redness (a*) is left alone, which real skin does not do: on dark
skin a rash is less red. It is an augmentation, not a picture of another person.
"""

import cv2
import numpy as np

from mpox.audit.skintone import tone_of_skin
from mpox.lesionmap import skin_coloured, to_lab

#: Raised by one whenever the copy of an unchanged picture changes.
VERSION = 1
#: Angles in degrees among which the target is drawn, all alike: from dark to very light skin.
TARGETS = (-45.0, 60.0)
_FEATHER = 0.01  # of the side


def transfer(picture: np.ndarray, target: float) -> np.ndarray:
    """A picture whose skin has another typology angle.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        RGB.
    target : float
        Degrees.

    Returns
    -------
    ndarray of uint8, of the same shape
        The unchanged picture where the skin has no angle (no colour, or less than a tenth of the picture is skin).
    """
    usual = tone_of_skin(picture)
    if usual is None:
        return picture
    lightness, _, b = usual
    radius, turn = np.hypot(lightness - 50, b), np.radians(target)
    lab = to_lab(picture)
    where = cv2.GaussianBlur(skin_coloured(lab).astype(np.float32), (0, 0), _FEATHER * max(picture.shape[:2]))
    lab[..., 0] = np.clip(lab[..., 0] + where * np.float32(50 + radius * np.sin(turn) - lightness), 0, 100)
    lab[..., 2] += where * np.float32(radius * np.cos(turn) - b)
    return np.round(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255).astype(np.uint8)


def drawn_transfer(picture: np.ndarray, *, seed: int) -> np.ndarray:
    """`transfer` to an angle that the seed draws from `TARGETS`."""
    return transfer(picture, np.random.default_rng(seed).uniform(*TARGETS))
