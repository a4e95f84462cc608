"""How a photograph comes to be in a scraped set twice: cropped, turned, re-coloured, framed, put into a collage, ...

Every change of geometry is an affine map on positions in pixels, counted from the picture's upper left corner (the
first pixel's centre is at 0.5). Images are handled as a pair: what is seen, and the stencil of its lesions.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from mpox.data.phantom.picture import caption, watermark

_BICUBIC, _NEAREST, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.NEAREST, Image.Resampling.BILINEAR
_PLAIN = ((255, 255, 255), (0, 0, 0), (240, 238, 232), (60, 62, 66), (128, 128, 128))
_FRAMES = ((250, 250, 250), (8, 8, 8), (236, 228, 210), (26, 58, 104), (150, 28, 40), (196, 200, 204))
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Pair = tuple[Image.Image, Image.Image]


def make_copy(
    kind: str,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    *,
    others: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Copy a photograph the way web sites do; every copy also goes through JPEG once (quality 70 to 95)."""
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of copy: {kind}")
    pair = (Image.fromarray(image), Image.fromarray(mask))
    if kind == "collage":
        if len(others) < 2:
            raise ValueError("a collage needs two other pictures")
        pair, transform = _collage(pair, [(Image.fromarray(i), Image.fromarray(m)) for i, m in others], rng)
    else:
        pair, transform = _KINDS[kind](pair, rng)
    values = tuple(float(value) for value in np.asarray(transform)[:2].ravel())
    return _through_jpeg(pair[0], int(rng.integers(70, 96))), np.asarray(pair[1]), values


def _affine(a: float = 1, b: float = 0, c: float = 0, d: float = 0, e: float = 1, f: float = 0) -> np.ndarray:
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]], float)


def _resize(pair: Pair, size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> tuple[Pair, np.ndarray]:
    """The part `box` (left, top, right, bottom) of a pair, or all of it, brought to `size` (width, height)."""
    left, top, right, bottom = box or (0, 0, *pair[0].size)
    sx, sy = size[0] / (right - left), size[1] / (bottom - top)
    resized = pair[0].resize(size, _BICUBIC, box=box), pair[1].resize(size, _NEAREST, box=box)
    return resized, _affine(a=sx, c=-left * sx, e=sy, f=-top * sy)


def _crop(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    width, height = pair[0].size
    side = rng.uniform(0.58, 0.8)
    across, down = int(side * width), int(side * height)
    left, top = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
    return _resize(pair, (width, height), (left, top, left + across, top + down))


def _mirror(pair: Pair, rng: np.random.Generator | None = None) -> tuple[Pair, np.ndarray]:
    picture, mask = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in pair)
    return (picture, mask), _affine(a=-1, c=pair[0].width)


def _squash(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    width, height = pair[0].size
    return _resize(pair, (int(rng.uniform(0.62, 0.8) * width), height))


def _grey(pair: Pair, rng: np.random.Generator | None = None) -> tuple[Pair, np.ndarray]:
    return (pair[0].convert("L").convert("RGB"), pair[1]), _affine()


def _rescale(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    factor = rng.uniform(0.4, 0.8) if rng.random() < 0.5 else rng.uniform(1.3, 2.0)
    width, height = pair[0].size
    return _resize(pair, (round(factor * width), round(factor * height)))


def _rotate(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    """Half of them by quarter turns; the others by a small angle, corners filled, or cropped away."""
    width, height = pair[0].size
    degrees = 90.0 * rng.integers(1, 4) if rng.random() < 0.5 else rng.choice([-1, 1]) * rng.uniform(3, 25)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    spread = abs(cos) + abs(sin)
    size = (width * abs(cos) + height * abs(sin), width * abs(sin) + height * abs(cos))
    if degrees % 90 and rng.random() < 0.5:
        keep = 1 / spread if width == height else min(width / size[0], height / size[1])
        size = (int(keep * width), int(keep * height))
    out = (round(size[0]), round(size[1]))
    middle = _affine(c=out[0] / 2, f=out[1] / 2)
    transform = middle @ _affine(a=cos, b=-sin, d=sin, e=cos) @ _affine(c=-width / 2, f=-height / 2)
    transform = np.round(transform, 12)
    back = tuple(np.linalg.inv(transform)[:2].ravel())
    plain = _PLAIN[rng.integers(len(_PLAIN))]
    picture = pair[0].transform(out, Image.Transform.AFFINE, back, _BICUBIC if degrees % 90 else _NEAREST, fillcolor=plain)
    return (picture, pair[1].transform(out, Image.Transform.AFFINE, back, _NEAREST)), transform


def _recolour(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    """Another white balance, gamma and saturation, as a camera application or a printer leaves them."""

    def strongly(low: float, high: float) -> float:
        return float(np.exp(rng.choice([-1, 1]) * rng.uniform(low, high)))

    colours = (np.asarray(pair[0], np.float32) / 255) ** strongly(0.15, 0.45)
    warm, tint = strongly(0.06, 0.2), strongly(0.0, 0.06)
    colours *= np.array([warm, tint, 1 / warm], np.float32)
    luma = (colours @ _LUMA)[..., None]
    colours = luma + strongly(0.25, 0.7) * (colours - luma)
    return (Image.fromarray(np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)), pair[1]), _affine()


def _frame(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    """A plain border, maybe with rounded corners or a line in it; half of the images also bear a watermark."""
    picture, stencil = pair
    width, height = picture.size
    if rng.random() < 0.5:
        picture = watermark(picture, rng)
    colour = _FRAMES[rng.integers(len(_FRAMES))]
    side = max(round(rng.uniform(0.04, 0.15) * width), 2)
    below = side if rng.random() < 0.7 else round(1.8 * side)
    framed = Image.new("RGB", (width + 2 * side, height + side + below), colour)
    longer = Image.new("1", framed.size)
    style = rng.random()
    inside = Image.new("L", (4 * width, 4 * height), 255 if style >= 0.35 else 0)
    if style < 0.35:
        corner = rng.uniform(0.04, 0.12) * 4 * width
        ImageDraw.Draw(inside).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), radius=corner, fill=255)
    inside = inside.reduce(4)
    framed.paste(picture, (side, side), inside)
    longer.paste(stencil, (side, side), inside.point(lambda value: 255 * (value > 127)).convert("1"))
    if style >= 0.65:
        gap = max(side // 3, 1)
        line = tuple(255 - c if abs(c - 128) > 40 else 0 for c in colour)
        ImageDraw.Draw(framed).rectangle((side - gap, side - gap, side + width + gap - 1, side + height + gap - 1), outline=line)
    return (framed, longer), _affine(c=side, f=side)


def _collage(pair: Pair, others: list[Pair], rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    """Two or three panels side by side or above each other, this image in any of them; all are scaled alike."""
    n = int(rng.integers(2, 4))
    place = int(rng.integers(n))
    scale = rng.uniform(0.6, 1.0) if n == 2 else rng.uniform(0.5, 0.8)
    width, height = (round(scale * side) for side in pair[0].size)
    gap = round(rng.choice([0, 0.01, 0.02, 0.04]) * width)
    upright = rng.random() < 0.5
    step = (0, height + gap) if upright else (width + gap, 0)
    sheet = Image.new("RGB", (width + (n - 1) * step[0], height + (n - 1) * step[1]), _PLAIN[rng.integers(len(_PLAIN))])
    stencils = Image.new("1", sheet.size)
    panels = [*others[: n - 1]]
    panels.insert(place, pair)
    for k, panel in enumerate(panels):
        resized, shrunk = _resize(panel, (width, height))
        corner = (k * step[0], k * step[1])
        sheet.paste(resized[0], corner)
        stencils.paste(resized[1], corner)
        if k == place:
            transform = _affine(c=corner[0], f=corner[1]) @ shrunk
    return (sheet, stencils), transform


def _combined(pair: Pair, rng: np.random.Generator) -> tuple[Pair, np.ndarray]:
    pair, cropped = _crop(pair, rng)
    pair, mirrored = _mirror(pair)
    pair, _ = (_grey if rng.random() < 0.5 else _recolour)(pair, rng)
    return pair, mirrored @ cropped


_KINDS: dict[str, Callable[..., tuple[Pair, np.ndarray]]] = {
    "crop": _crop,
    "mirror": _mirror,
    "squash": _squash,
    "grey": _grey,
    "caption": lambda pair, rng: (caption(pair[0], pair[1], rng), _affine()),
    "rescale": _rescale,
    "rotate": _rotate,
    "recolour": _recolour,
    "frame": _frame,
    "collage": _collage,
    "combined": _combined,
}
COPY_KINDS = tuple(_KINDS)


def _through_jpeg(picture: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
