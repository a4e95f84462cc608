"""Who is in the phantom, and what their skin looks like before anything grows on it.

A `Person` holds what all images of one patient share. The functions below it turn a person and a random generator into the fields
from which an image is shaded: colour (CIELAB), height and body shape. Lengths are in image widths at zoom 1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

#: Individual typology angle in degrees by Fitzpatrick type (the limits of Del Bino and Bernerd), and a* and b* of such skin.
ITA_RANGES = {1: (55.0, 66.0), 2: (41.0, 55.0), 3: (28.0, 41.0), 4: (10.0, 28.0), 5: (-30.0, 10.0), 6: (-56.0, -30.0)}
_CHROMA = {1: (10.5, 12.0), 2: (11.0, 14.5), 3: (11.5, 17.5), 4: (12.0, 19.0), 5: (11.5, 16.5), 6: (8.5, 10.5)}
_CLOTHS = [(38, -2, -26), (48, -22, 6), (86, 0, 2), (62, 0, 0), (74, 3, 14), (24, 0, -2), (52, 28, 12), (70, -6, -10)]


@dataclass(frozen=True)
class Person:
    """What the images of one patient have in common: skin, body site, surroundings, photographer, rash."""

    label: str
    fitzpatrick: int
    ita: float  # degrees
    lab: tuple[float, float, float]
    furrow: float  # size of a skin field, image widths
    relief: float  # depth of the skin's relief, 0.5-1.5
    mottle: float
    hairs: int
    moles: int
    freckles: int
    bites: int
    half_width: float  # of the limb, image widths
    axis: float  # direction of the limb, radians
    cloth: tuple[float, float, float]  # Lab of what lies behind the limb
    light: float  # direction the light comes from, radians
    slant: float  # tilt of the light away from the camera, radians
    warmth: float  # white balance, natural logarithm of red over blue
    sharpness: float  # blur of the camera, standard deviation in 1/224 of the width
    zoom: float
    n_pictures: int
    rash: np.random.SeedSequence  # feeds the patient's lesions

    @property
    def redness(self) -> float:
        """How visible reddening is on this skin, 0.25 (type VI) to 1 (type I)."""
        return float(np.clip(0.25 + 0.75 * (self.ita + 45) / 90, 0.25, 1.0))


def draw_person(seed: int, index: int, label: str) -> Person:
    """Draw patient number `index` (from 0); skin tone runs through the types I to VI alike in every class."""
    rng = np.random.default_rng([seed, index])
    fitzpatrick = (index // 4) % 6 + 1
    low, high = ITA_RANGES[fitzpatrick]
    ita = float(rng.uniform(low + 0.5, high - 0.5))
    a, b = (c * rng.uniform(0.9, 1.1) for c in _CHROMA[fitzpatrick])
    lab = (float(50 + b * np.tan(np.radians(ita))), float(a), float(b))
    red, green, blue = np.array(_CLOTHS[rng.integers(len(_CLOTHS))]) + rng.normal(0, 3, 3)
    return Person(
        label=label,
        fitzpatrick=fitzpatrick,
        ita=ita,
        lab=lab,
        furrow=float(rng.uniform(0.016, 0.03)),
        relief=float(rng.uniform(0.5, 1.5)),
        mottle=float(rng.uniform(0.5, 1.5)),
        hairs=int(rng.integers(8, 70)) if rng.random() < 0.35 else 0,
        moles=int(rng.integers(1, 4)) if rng.random() < 0.4 else 0,
        freckles=int(rng.integers(15, 60)) if rng.random() < 0.25 else 0,
        bites=int(rng.integers(1, 5)) if rng.random() < 0.35 else 0,
        half_width=float(np.exp(rng.uniform(np.log(0.4), np.log(2.2)))),
        axis=float(rng.uniform(0, np.pi)),
        cloth=(float(red), float(green), float(blue)),
        light=float(rng.uniform(0, 2 * np.pi)),
        slant=float(rng.uniform(0.3, 0.95)),
        warmth=float(rng.normal(0, 0.16)),
        sharpness=float(rng.uniform(0.4, 1.05)),
        zoom=float(rng.uniform(0.8, 1.35)),
        n_pictures=int(rng.choice([1, 2, 3, 4], p=[0.34, 0.36, 0.22, 0.08])),
        rash=np.random.SeedSequence([seed, index, 7]),
    )


def value_noise(rng: np.random.Generator, size: int, cells: float) -> np.ndarray:
    """Smooth random field (size, size) float32, mean 0, deviation about 0.8, `cells` cells across."""
    n = int(cells) + 2
    grid = Image.fromarray(rng.standard_normal((n, n), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def furrows(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, cell: float) -> np.ndarray:
    """The network of fine lines that divides skin into fields: 1 on a line, 0 inside a field (float32)."""
    n = 128
    jitter = rng.random((n, n, 2), dtype=np.float32)
    gu, gv = (1.25 * u / cell).astype(np.float32), (v / cell).astype(np.float32)
    iu, iv = np.floor(gu).astype(np.int32), np.floor(gv).astype(np.int32)
    fu, fv = gu - iu, gv - iv
    nearest = np.full(u.shape, 9.0, np.float32)
    second = nearest.copy()
    for du in (-1, 0, 1):
        for dv in (-1, 0, 1):
            point = jitter[(iu + du) % n, (iv + dv) % n]
            distance = (point[..., 0] + du - fu) ** 2 + (point[..., 1] + dv - fv) ** 2
            np.minimum(second, np.maximum(nearest, distance), out=second)
            np.minimum(nearest, distance, out=nearest)
    return np.exp(-(np.sqrt(second) - np.sqrt(nearest)) / 0.14)


@dataclass
class Skin:
    """The fields of one image: all arrays are (size, size) float32 unless said otherwise."""

    lab: np.ndarray  # (size, size, 3), the colour under white light
    height: np.ndarray  # image widths at zoom 1
    gloss: np.ndarray
    bend: np.ndarray  # (2, size, size): x and y of the body's surface normal
    body: np.ndarray  # 1 on skin, 0 on what lies behind
    x: np.ndarray  # image coordinates at zoom 1, about 0
    y: np.ndarray
    pixel: float  # the width of a pixel in these coordinates


def draw_skin(person: Person, rng: np.random.Generator, size: int) -> Skin:
    """Draw the healthy skin of `person` as one image of size x size shows it."""
    pixel = 1 / (size * person.zoom * rng.uniform(0.85, 1.18))
    line = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel)
    x, y = np.meshgrid(line, line)
    angle = person.axis + rng.normal(0, 0.25)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    room = max(person.half_width, 0.45)
    across_limb = (across - rng.uniform(-0.3, 0.3) * room) / room
    body = np.clip((1 - np.abs(across_limb)) * room / pixel / 1.5 + 0.5, 0, 1)
    tilt = np.clip(across_limb, -0.97, 0.97)
    bend = np.stack([tilt * np.cos(angle), tilt * np.sin(angle)])

    lines = furrows(rng, across + 3, along + 3, person.furrow)
    pores = value_noise(rng, size, size * pixel / 0.011)
    broad = [value_noise(rng, size, n * size * pixel) for n in (3, 7, 16, 40)]
    height = person.relief * (0.0006 * pores - 0.0022 * lines * person.furrow / 0.023 + 0.004 * broad[1])
    tint = [value_noise(rng, size, n * size * pixel) for n in (4, 12, 30)]
    specks = _specks(rng, size, pixel)
    lightness = person.mottle * (1.3 * broad[0] + 0.9 * broad[2] + 0.7 * broad[3]) - 1.6 * lines + 0.5 * pores
    lightness -= specks
    lab = np.empty((size, size, 3), np.float32)
    lab[..., 0] = person.lab[0] + lightness
    lab[..., 1] = person.lab[1] + person.redness * person.mottle * (1.1 * tint[0] + 0.8 * tint[1] + 0.6 * tint[2])
    lab[..., 2] = person.lab[2] + person.mottle * (0.7 * tint[0] + 0.5 * broad[3])
    gloss = (0.05 + 0.03 * broad[2]).clip(0).astype(np.float32)
    _draw_hair(lab, person, rng, angle)
    return Skin(lab, height.astype(np.float32), gloss, bend.astype(np.float32), body.astype(np.float32), x, y, pixel)


def _specks(rng: np.random.Generator, size: int, pixel: float) -> np.ndarray:
    """Hair follicles and specks of pigment: how much darker (CIELAB L*) they make each pixel, float32."""
    count = int(420 * (size * pixel) ** 2)
    row, column = rng.integers(0, size, (2, count))
    width = 0.0042 / pixel
    field = np.zeros((size, size), np.float32)
    np.add.at(field, (row, column), rng.gamma(2.0, 2.3, count).astype(np.float32) * 2 * np.pi * width**2)
    return ndimage.gaussian_filter(field, width, truncate=3)


def draw_cloth(person: Person, rng: np.random.Generator, size: int) -> np.ndarray:
    """What lies behind the limb, cloth or wall: (size, size, 3) float32 in CIELAB."""
    folds = 4 * value_noise(rng, size, 3) + 1.2 * value_noise(rng, size, 9)
    weave = value_noise(rng, size, size / 2.5) * rng.uniform(0.4, 2.0)
    lab = np.empty((size, size, 3), np.float32)
    lab[:] = person.cloth
    lab[..., 0] += folds + weave
    return lab


def _draw_hair(lab: np.ndarray, person: Person, rng: np.random.Generator, angle: float) -> None:
    """Draw fine dark hairs along the limb into `lab`, in place."""
    if not person.hairs:
        return
    size = lab.shape[0]
    big = 3 * size
    image = Image.new("L", (big, big))
    pen = ImageDraw.Draw(image)
    for _ in range(person.hairs):
        x, y = rng.uniform(-0.05, 1.05, 2) * big
        turn, length = angle + np.pi / 2 + rng.normal(0, 0.35), rng.uniform(0.05, 0.16) * big
        bow = rng.normal(0, 0.18)
        steps = np.linspace(0, 1, 9)
        xs = x + length * (steps * np.cos(turn) - bow * steps**2 * np.sin(turn))
        ys = y + length * (steps * np.sin(turn) + bow * steps**2 * np.cos(turn))
        pen.line(list(zip(xs, ys, strict=True)), fill=int(rng.integers(90, 190)), width=2)
    cover = np.asarray(image.reduce(3), np.float32)[..., None] / 255
    lab += cover * (np.array([18.0, 4.0, 5.0], np.float32) - lab)
