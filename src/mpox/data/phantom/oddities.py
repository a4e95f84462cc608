"""Images that no model of rashes should be asked about, and a few that it may: drawn here, or shipped with scikit-image.

None of them shows a patient, so that they can be printed beside what a model said to them.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mpox.data.phantom import PhantomSpec, healthy_counterpart

#: What scikit-image ships in its wheel, by kind.
_SHIPPED = {
    "cat": ["chelsea"],
    "thing": ["coffee", "rocket", "brick", "grass", "gravel", "coins", "horse"],
    "other medical picture": ["retina", "immunohistochemistry", "cell"],
    "document": ["page", "text"],
}
_TEXT = (
    "the patient was seen on the third day and the form was filled in by hand before the sample was sent to the laboratory "
    "where it is kept until the result has been written into the book and signed"
)


@dataclass(frozen=True, eq=False)
class Oddity:
    """An image and what it is."""

    kind: str
    name: str  # unique
    picture: np.ndarray  # uint8, shape (size, size, 3)


def draw_oddities(size: int = 224, *, n: int = 6, seed: int = 0) -> list[Oddity]:
    """All of them: `n` of each drawn kind, the same for the same seed, and the shipped ones.

    `size` is the side in pixels, at least 64; shipped images are squashed to it, as every image of the study is.
    """
    drawn: list[Oddity] = []
    for kind, draw in _DRAWN.items():
        for number in range(n):
            rng = np.random.default_rng([seed, number, len(drawn)])
            drawn.append(Oddity(kind, f"{kind} {number + 1}", draw(rng, size, number)))
    return drawn + _shipped(size)


def _shipped(size: int) -> list[Oddity]:
    from skimage import data

    found = []
    for kind, names in _SHIPPED.items():
        for name in names:
            pixels = np.asarray(getattr(data, name)())
            pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
            picture = Image.fromarray(pixels).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            found.append(Oddity(kind, name, np.asarray(picture)))
    return found


def document(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """A page of printed lines, some of them filled in a table, slightly grey."""
    scale = 3
    page = Image.new("L", (scale * size, scale * size), int(rng.integers(225, 254)))
    pen = ImageDraw.Draw(page)
    height = scale * size * rng.uniform(0.035, 0.06)
    font = ImageFont.load_default(size=height)
    words = " ".join(rng.choice(_TEXT.split(), 400))
    left = scale * size * rng.uniform(0.05, 0.12)
    lines = textwrap.wrap(words, int((scale * size - 2 * left) / (0.5 * height)))
    for row, line in enumerate(lines[: int((scale * size - 2 * left) / (1.4 * height))]):
        pen.text((left, left + 1.4 * height * row), line, fill=int(rng.integers(15, 60)), font=font)
    return np.asarray(page.reduce(scale).convert("RGB"))


def wall(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """A plain wall: one colour, a slope of light, fine grain."""
    colour = rng.uniform(90, 240, 3)
    rows, columns = np.mgrid[:size, :size] / size
    light = 1 - 0.3 * (rng.uniform(-1, 1) * rows + rng.uniform(-1, 1) * columns)
    grain = rng.normal(0, 3, (size, size, 1))
    return np.clip(colour * light[..., None] + grain, 0, 255).astype(np.uint8)


def landscape(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """Sky, hills and ground in bands of colour."""
    rows = np.arange(size)[:, None, None] / size
    sky = np.array([110, 160, 225]) + (1 - rows) * rng.uniform(-30, 30, 3) + 60 * rows
    picture = np.broadcast_to(sky, (size, size, 3)).copy()
    x = np.arange(size) / size
    for depth, base in enumerate(np.sort(rng.uniform(0.4, 0.8, 3))):
        waves = sum(rng.uniform(0, 0.06) * np.sin(2 * np.pi * (k * x + rng.random())) for k in range(1, 5))
        below = np.arange(size)[:, None] / size > base + waves
        picture[below] = np.array([60, 110 - 20 * depth, 50]) + rng.uniform(-15, 15, 3)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """Coloured noise of one grain, from fine to coarse."""
    cells = int(size / 2 ** rng.uniform(0, 5))
    small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.NEAREST))


def healthy(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """Skin without a rash, of a drawn person who is in no phantom of the study."""
    return healthy_counterpart(PhantomSpec(seed=90_001, size=size, copies=0, label_conflicts=0), number + 1, 1)


def dermoscopy(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """As through a dermatoscope: one large pigmented spot on skin, in a round dark frame."""
    skin = Image.fromarray(healthy(rng, size, 40 + number)).filter(ImageFilter.GaussianBlur(size / 112))
    rows, columns = (np.mgrid[:size, :size] / size - 0.5) * 2
    angle, distance = np.arctan2(rows, columns), np.hypot(rows, columns)
    edge = 0.45 + sum(rng.normal(0, 0.04) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    mottle = Image.fromarray(rng.normal(0, 1, (12, 12)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    spot = 1 / (1 + np.exp((distance - edge) * 30))
    dark = np.clip(spot * (0.72 + 0.12 * np.asarray(mottle)), 0, 0.95)[..., None]
    pigment = np.array([60, 38, 28]) + rng.uniform(-10, 10, 3)
    picture = np.asarray(skin, dtype=float) * (1 - dark) + pigment * dark
    frame = 1 / (1 + np.exp((distance - 0.97) * 60))
    return np.clip(picture * frame[..., None], 0, 255).astype(np.uint8)


_DRAWN = {
    "document": document,
    "plain wall": wall,
    "landscape": landscape,
    "noise": noise,
    "dermoscopy-like drawing": dermoscopy,
    "drawn healthy skin": healthy,
}
