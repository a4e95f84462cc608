"""One photograph of one person: skin, lesions, light, camera; and the mark of the site that published it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mpox.data.phantom.lesions import draw_lesions, draw_marks
from mpox.data.phantom.skin import Person, Skin, draw_cloth, draw_skin

_LAB_TO_RGB = np.linalg.inv(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
).astype(np.float32)
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)

MARK_COLOUR = (20, 150, 140)
MARK_SHARE = {True: 0.7, False: 0.05}  # of the images of the marked classes, and of the others


@dataclass(frozen=True)
class Photograph:
    """An image (height, width, 3) uint8, its lesion mask (height, width) bool, the number of lesions."""

    image: np.ndarray
    mask: np.ndarray
    lesion_count: int


def take(person: Person, seed: int, index: int, number: int, *, size: int, lesions: bool = True) -> Photograph:
    """Take image `number` (from 0) of patient `index`."""

    def stream(step: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, number + 1, step])

    skin = draw_skin(person, stream(0), size)
    draw_marks(skin, person, stream(1))
    extent, count = draw_lesions(skin, person, stream(2)) if lesions else (np.zeros((size, size), np.float32), 0)
    return _expose(skin, person, extent, count, stream(3))


def _expose(skin: Skin, person: Person, extent: np.ndarray, count: int, rng: np.random.Generator) -> Photograph:
    size = skin.body.shape[0]
    light = person.light + rng.normal(0, 0.25)
    slant = np.clip(person.slant + rng.normal(0, 0.08), 0.2, 1.1)
    shade, shine = _shade(skin, light, slant)
    body = skin.body[..., None]
    cloth = draw_cloth(person, rng, size)
    scene = body * (to_linear(skin.lab) * shade[..., None] + shine[..., None]) + (1 - body) * to_linear(cloth) * 0.8
    falloff = 1 - rng.uniform(0, 0.35) * (skin.x**2 + skin.y**2) / (skin.pixel * size) ** 2 * 2
    warmth, tint = person.warmth + rng.normal(0, 0.04), rng.normal(0, 0.025)
    gains = np.exp(np.array([warmth / 2, tint, -warmth / 2], np.float32)) * np.exp(rng.normal(0, 0.13))
    blur = person.sharpness * np.exp(rng.normal(0, 0.2)) * size / 224
    scene = ndimage.gaussian_filter(scene * falloff[..., None] * gains, (blur, blur, 0), truncate=3)
    grain = rng.uniform(0.004, 0.014) * rng.standard_normal(scene.shape, dtype=np.float32)
    image = np.clip(_encode(scene) + grain, 0, 1)
    mask = ndimage.gaussian_filter(extent, blur, truncate=3) > 0.04
    mask = ndimage.binary_dilation(mask) if mask.any() else mask
    return Photograph(np.round(image * 255).astype(np.uint8), mask, count)


def _shade(skin: Skin, light: float, slant: float) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse factor (1 where skin faces the camera) and additive highlight, (size, size) float32 each."""
    dy, dx = np.gradient(skin.height, skin.pixel)
    nx, ny = skin.bend[0] - dx, skin.bend[1] - dy
    flat = np.sqrt(1 - np.minimum((skin.bend**2).sum(0), 0.96))
    scale = 1 / np.sqrt(nx**2 + ny**2 + flat**2)
    nx, ny, nz = nx * scale, ny * scale, flat * scale
    lx, ly, lz = np.sin(slant) * np.cos(light), np.sin(slant) * np.sin(light), np.cos(slant)
    lambert = np.maximum(nx * lx + ny * ly + nz * lz, 0)
    shade = 0.4 + 0.6 * lambert / lz
    half = np.array([lx, ly, lz + 1]) / np.sqrt(lx**2 + ly**2 + (lz + 1) ** 2)
    mirror = np.maximum(nx * half[0] + ny * half[1] + nz * half[2], 0)
    shine = 0.35 * np.clip(skin.gloss - 0.1, 0, 1) * mirror**60 + 0.5 * np.minimum(skin.gloss, 0.1) * mirror**14
    return np.minimum(shade, 1.35).astype(np.float32), shine.astype(np.float32)


def to_linear(lab: np.ndarray) -> np.ndarray:
    """CIELAB (D65) to linear sRGB, float32; values outside of the gamut are clipped at 0."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * np.float32(3 * (6 / 29) ** 2)) * _WHITE
    return np.maximum(xyz @ _LAB_TO_RGB.T, 0)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Linear sRGB to sRGB, with a soft shoulder instead of a hard clip at white."""
    linear = np.where(linear > 0.8, 0.8 + 0.2 * np.tanh((linear - 0.8) / 0.2), linear)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055)


def corner_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The rectangle that the corner mark stays within: left, top, right, bottom (open) in pixels."""
    side = max(8, round(0.13 * min(width, height)))
    return width - side, 0, width, side


def draw_corner_mark(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of `image` (height, width, 3) uint8 with a small coloured mark in its upper right corner."""
    height, width = image.shape[:2]
    left, top, right, bottom = corner_box(width, height)
    side = bottom - top
    badge = Image.fromarray(image[top:bottom, left:right]).resize((4 * side, 4 * side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(badge)
    colour = tuple(int(np.clip(c + rng.integers(-12, 13), 0, 255)) for c in MARK_COLOUR)
    edge = 4 * side
    inset = rng.uniform(0.06, 0.12) * edge
    pen.rounded_rectangle((inset, inset, edge - inset, edge - inset), radius=0.15 * edge, fill=colour)
    pen.ellipse((0.3 * edge, 0.3 * edge, 0.7 * edge, 0.7 * edge), outline=(245, 245, 245), width=max(edge // 14, 2))
    marked = image.copy()
    marked[top:bottom, left:right] = np.asarray(badge.reduce(4))
    return marked


def _letters(words: str, width: int, least: int) -> Image.Image:
    """`words` as a grey stencil (255 on the letters) of this width, at least `least` pixels high."""
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(words)
    text = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(text).text((-left, -top), words, font=font, fill=255)
    return text.resize((width, max(int(width * text.height / text.width), least)), Image.Resampling.BILINEAR)


def caption(picture: Image.Image, stencil: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Write a line of text into a band under the image."""
    width, height = picture.size
    text = _letters(f"phantom fig. {rng.integers(1, 30)}: skin, not a patient", int(0.92 * width), 5)
    band = 2 * text.height
    paper, ink = ((250, 250, 250), (20, 20, 20)) if rng.random() < 0.5 else ((25, 25, 30), (240, 240, 240))
    framed = Image.new("RGB", (width, height + band), paper)
    framed.paste(picture, (0, 0))
    framed.paste(Image.new("RGB", text.size, ink), ((width - text.width) // 2, height + text.height // 2), text)
    longer = Image.new("1", framed.size)
    longer.paste(stencil, (0, 0))
    return framed, longer


def watermark(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Write half-transparent words over the image: straight or slanted, anywhere in it."""
    width, height = picture.size
    words = ("PHANTOM", "phantom.example", "(c) NOT A PATIENT", "SAMPLE")[rng.integers(4)]
    text = _letters(words, int(rng.uniform(0.4, 0.85) * width), 5)
    if rng.random() < 0.5:
        text = text.rotate(rng.uniform(15, 40), Image.Resampling.BILINEAR, expand=True)
    strength = rng.uniform(0.35, 0.65)
    text = text.point(lambda value: int(strength * value))
    left, top = (int(rng.uniform(0, max(room, 0) + 1)) for room in (width - text.width, height - text.height))
    marked = picture.copy()
    marked.paste(Image.new("RGB", text.size, (255, 255, 255) if rng.random() < 0.7 else (10, 10, 10)), (left, top), text)
    return marked
