"""What is changed in the pages that Sphinx wrote: light pictures that load when they are needed, and notebooks to download."""

import base64
import hashlib
import io
import os
import re
import zipfile
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import unquote

from PIL import Image
from tqdm import tqdm

#: Quality of lossy WebP, 0 to 100, for photographs.
QUALITY = 90
#: Width in CSS pixels from which on a picture links to itself alone, so that a phone can enlarge it.
LINKED = 480
#: A CSS pixel is the 96th part of an inch.
CSS_DPI = 96

_QUOTED = r"""(?:[^>"']|"[^"]*"|'[^']*')*"""
_IMAGE = re.compile(rf"(?P<link><a\b{_QUOTED}>\s*)?(?P<tag><img\b{_QUOTED}>)", re.I)
_SOURCE = re.compile(r"""\bsrc=(["'])(.*?)\1""", re.I | re.S)
_DATA = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,(.*)", re.I | re.S)
_LINKED_FILE = re.compile(r'\bhref="([^"#?]*_images/[^"#?]+)"')
_FIGURE = re.compile(r'<figure\b[^>]*?(?: id="(?P<id>[^"]*)")?>(?P<body>.*?)</figure>', re.S)
_CAPTION = re.compile(r"<figcaption\b.*?</figcaption>", re.S)
#: What opens an entry of the contents; the theme gives it no name.
_TOGGLE = '<summary><span class="toctree-toggle"'
_ANCHOR = re.compile(rf"<a\b{_QUOTED}>", re.I)


@dataclass(frozen=True)
class Picture:
    """A picture of the book as it was written.

    Attributes
    ----------
    path : Path
        The WebP file.
    width, height : int
        At which it is shown, in CSS pixels.
    """

    path: Path
    width: int
    height: int


@dataclass
class _Pictures:
    """Writes each picture once, whichever pages show it."""

    folder: Path
    known: dict[str, Picture] = field(default_factory=dict)
    replaced: dict[Path, Picture] = field(default_factory=dict)

    def add(self, data: bytes) -> Picture:
        name = hashlib.sha256(data).hexdigest()[:20]
        if name not in self.known:
            self.folder.mkdir(exist_ok=True)
            encoded, (width, height) = webp(data)
            path = self.folder / f"{name}.webp"
            path.write_bytes(encoded)
            self.known[name] = Picture(path, width, height)
        return self.known[name]

    def add_file(self, path: Path) -> Picture:
        if path not in self.replaced:
            self.replaced[path] = self.add(path.read_bytes())
        return self.replaced[path]


def webp(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """A picture as WebP, and the size at which to show it.

    A drawing stays as it is to the last pixel. What a lossy file of `QUALITY` holds in less than half the bytes is a photograph,
    and becomes that.

    Parameters
    ----------
    data : bytes
        A file that Pillow reads: PNG, JPEG, ...

    Returns
    -------
    encoded : bytes
    size : tuple of int
        Width and height in CSS pixels: its inches where the file states its resolution (so that a figure drawn with twice the
        pixels is as large, and sharper), else its pixels.
    """
    source = Image.open(io.BytesIO(data))
    dpi = source.info.get("dpi", (CSS_DPI, CSS_DPI))
    width, height = (max(1, round(pixels * CSS_DPI / d)) for pixels, d in zip(source.size, dpi, strict=True))
    clear = source.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    image = source.convert("RGB" if clear else "RGBA")
    lossless, lossy = io.BytesIO(), io.BytesIO()
    image.save(lossless, "WEBP", lossless=True, quality=75, method=4)
    image.save(lossy, "WEBP", quality=QUALITY, method=4)
    photograph = 2 * lossy.tell() < lossless.tell()
    return (lossy if photograph else lossless).getvalue(), (width, height)


def finish(html: Path) -> None:
    """Finish a book that Sphinx has built, in place.

    - Every picture of a page, embedded ones too, becomes a WebP file under ``_images/`` with its width and height, loaded when
      it comes into sight; a large one links to itself, for readers who want to enlarge it. The old files are removed.
    - A caption under words (where a cell says why it shows no picture) is left out, for it describes a picture.
    - The download button of a page downloads. Beside each notebook lies a zipped copy: a browser that opened the book
      from disk would show a notebook as text (``mpox.js`` points the button there).
    - The entries of a list of references are list items, as their list demands; their own role is no longer in ARIA.

    Parameters
    ----------
    html : Path
        The folder with ``index.html``.
    """
    pictures = _Pictures(html / "_images")
    pages = [page for page in sorted(html.rglob("*.html")) if "_static" not in page.parts]
    for page in tqdm(pages, desc="finishing pages", unit="page", delay=3, leave=False):
        text = page.read_text(encoding="utf-8")
        text = _IMAGE.sub(partial(_picture, page=page, pictures=pictures), text)
        text = _LINKED_FILE.sub(partial(_link, page=page, pictures=pictures), text)
        text = _ANCHOR.sub(_download, _FIGURE.sub(_captioned, text))
        text = text.replace(_TOGGLE, _TOGGLE.replace("<summary>", '<summary aria-label="pages of this entry">'))
        page.write_text(text.replace('role="doc-biblioentry"', 'role="listitem"'), encoding="utf-8")
    for path in pictures.replaced:
        path.unlink()
    for notebook in sorted((html / "_sources").rglob("*.ipynb")):
        with zipfile.ZipFile(notebook.with_name(f"{notebook.name}.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(notebook, notebook.name)


def _picture(found: re.Match, page: Path, pictures: _Pictures) -> str:
    tag = found["tag"]
    source = _SOURCE.search(tag)
    if source is None:
        return found[0]
    if embedded := _DATA.fullmatch(source[2]):
        picture = pictures.add(base64.b64decode(embedded[1]))
    elif (path := _file(source[2], page)) is not None:
        picture = pictures.add_file(path)
    else:
        return found[0]
    address = _address(picture, page)
    tag = tag[: source.start()] + f'src="{address}"' + tag[source.end() :]
    size = "" if re.search(r"\b(width|height|style)=", tag) else f' width="{picture.width}" height="{picture.height}"'
    tag = f'<img{size} loading="lazy" decoding="async"{tag[4:]}'
    if found["link"] is None and picture.width >= LINKED:
        return f'<a class="mpox-enlarge" href="{address}">{tag}</a>'
    return (found["link"] or "") + tag


def _link(found: re.Match, page: Path, pictures: _Pictures) -> str:
    path = _file(found[1], page)
    return found[0] if path is None else f'href="{_address(pictures.add_file(path), page)}"'


def _file(address: str, page: Path) -> Path | None:
    """The picture file of the book that an address on a page means, if it is one that is rewritten."""
    if re.match(r"[a-z]+:|/", address, re.I) or not address.lower().endswith((".png", ".jpg", ".jpeg")):
        return None
    path = Path(os.path.normpath(page.parent / unquote(address)))
    return path if path.parent.name == "_images" and path.is_file() else None


def _address(picture: Picture, page: Path) -> str:
    return escape(Path(os.path.relpath(picture.path, page.parent)).as_posix())


def _captioned(found: re.Match) -> str:
    if re.search(r"<(img|svg|canvas|table|video)\b", found["body"]):
        return found[0]
    return f'<span id="{found["id"] or ""}"></span>{_CAPTION.sub("", found["body"])}'


def _download(found: re.Match) -> str:
    if "btn-download-source-button" not in found[0]:
        return found[0]
    tag = re.sub(r'\s*target="_blank"', "", found[0])
    return f"{tag[:-1]} download>"
