"""Words that web sites put under and over pictures; drawn with the font that Pillow has built in."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def _letters(words: str, width: int, least: int) -> Image.Image:
    """`words` as a grey stencil (255 on the letters) of this width, at least `least` pixels high."""
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(words)
    text = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(text).text((-left, -top), words, font=font, fill=255)
    return text.resize((width, max(int(width * text.height / text.width), least)), Image.Resampling.BILINEAR)


def caption(picture: Image.Image, stencil: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Write a line of text into a band under the picture."""
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
    """Write half-transparent words over the picture: straight or slanted, anywhere in it."""
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
