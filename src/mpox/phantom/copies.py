"""How a photograph comes to be in a scraped set twice: cropped, mirrored, squashed, in grey, captioned."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COPY_KINDS = ("crop", "mirror", "squash", "grey", "caption")


def make_copy(
    kind: str, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Copy a photograph the way web sites do; every copy also goes through JPEG once.

    Parameters
    ----------
    kind : {'crop', 'mirror', 'squash', 'grey', 'caption'}
    image : ndarray (height, width, 3) uint8
    mask : ndarray (height, width) bool
    rng : numpy.random.Generator

    Returns
    -------
    image, mask : ndarray
        The copy and its lesion mask; their size may differ from the original's.
    transform : tuple of float
        ``(a, b, c, d, e, f)``: the original's pixel position (x, y) lies at (ax + by + c, dx + ey + f) in the
        copy, positions counted from the picture's upper left corner (the first pixel's centre is at 0.5).

    Raises
    ------
    ValueError
        If `kind` is none of these.
    """
    height, width = image.shape[:2]
    picture, stencil = Image.fromarray(image), Image.fromarray(mask)
    transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if kind == "crop":
        side = rng.uniform(0.58, 0.8)
        across, down = int(side * width), int(side * height)
        left, top = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
        box = (left, top, left + across, top + down)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
        stencil = stencil.resize((width, height), Image.Resampling.NEAREST, box=box)
        sx, sy = width / across, height / down
        transform = (sx, 0.0, -left * sx, 0.0, sy, -top * sy)
    elif kind == "mirror":
        picture, stencil = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (picture, stencil))
        transform = (-1.0, 0.0, float(width), 0.0, 1.0, 0.0)
    elif kind == "squash":
        narrow = int(rng.uniform(0.62, 0.8) * width)
        picture = picture.resize((narrow, height), Image.Resampling.BICUBIC)
        stencil = stencil.resize((narrow, height), Image.Resampling.NEAREST)
        transform = (narrow / width, 0.0, 0.0, 0.0, 1.0, 0.0)
    elif kind == "grey":
        picture = picture.convert("L").convert("RGB")
    elif kind == "caption":
        picture, stencil = _caption(picture, stencil, rng)
    else:
        raise ValueError(f"unknown kind of copy: {kind}")
    return _through_jpeg(picture, int(rng.integers(82, 95))), np.asarray(stencil), transform


def _caption(picture: Image.Image, stencil: Image.Image, rng: np.random.Generator):
    """Write a line of text into a band under the picture."""
    width, height = picture.size
    words = f"phantom fig. {rng.integers(1, 30)}: skin, not a patient"
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(words)
    text = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(text).text((-left, -top), words, font=font, fill=255)
    shown = (int(0.92 * width), max(int(0.92 * width * text.height / text.width), 5))
    text = text.resize(shown, Image.Resampling.BILINEAR)
    band = 2 * shown[1]
    paper, ink = ((250, 250, 250), (20, 20, 20)) if rng.random() < 0.5 else ((25, 25, 30), (240, 240, 240))
    framed = Image.new("RGB", (width, height + band), paper)
    framed.paste(picture, (0, 0))
    framed.paste(Image.new("RGB", shown, ink), ((width - shown[0]) // 2, height + shown[1] // 2), text)
    longer = Image.new("1", framed.size)
    longer.paste(stencil, (0, 0))
    return framed, longer


def _through_jpeg(picture: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
