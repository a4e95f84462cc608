"""Decoding: from any file that Pillow can read to upright RGB pixels, or one sentence that says why not."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path
from typing import cast

import numpy as np
import PIL
from PIL import Image, ImageCms, UnidentifiedImageError

from mpox._core import MpoxError

#: An image above this many pixels is rejected before it is decoded (a decompression bomb, or a scan to be reduced first).
MAX_PIXELS = 100_000_000
#: A file above this size is rejected before it is opened; an uncompressed image of `MAX_PIXELS` pixels is smaller.
MAX_BYTES = 2**30
#: Images above this many pixels are decoded one at a time, however many threads there are.
LARGE_PIXELS = 20_000_000
#: Rows that are hashed at once.
STRIP = 1024
#: Formats of Pillow that are left out: they call other programs, have no decoder, or unpack before their size is known.
_NOT_DECODED = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}

Image.init()
_FORMATS = {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
_FORMATS |= dict.fromkeys((".heic", ".heif", ".hif"), "HEIF")
#: The extensions of images: suffixes in lower case, with the dot.
EXTENSIONS = frozenset(suffix for suffix, kind in _FORMATS.items() if kind not in _NOT_DECODED)

warnings.filterwarnings("ignore", module=r"PIL\.")  # a file that is no good is told by `UnusablePicture`
_ONE_LARGE = threading.Lock()
_HEIC_HINT = '; HEIC needs an extra package: run `pip install "mpox[heic]"`, or save it as JPEG'
_TURN = Image.Transpose
_TURNS = dict(enumerate((
    _TURN.FLIP_LEFT_RIGHT, _TURN.ROTATE_180, _TURN.FLIP_TOP_BOTTOM, _TURN.TRANSPOSE, _TURN.ROTATE_270, _TURN.TRANSVERSE,
    _TURN.ROTATE_90,
), start=2))  # fmt: skip


class UnusablePicture(MpoxError):
    """A file that cannot be used as an image: `reason` is the rest of the sentence after its name.

    `passing` says that the machine is the reason (permissions, memory, a disk), so that it may be otherwise the next time.
    """

    def __init__(self, name: str, reason: str, *, passing: bool = False):
        super().__init__(f"{name} {reason}.")
        self.reason, self.passing = reason, passing


def printable(name: str) -> str:
    r"""A file name as text that can be printed and written: bytes that are not UTF-8 become ``\xNN``.

    Examples
    --------
    >>> printable("a" + chr(0xdcff))
    'a\\xff'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@functools.cache
def _register_heif() -> bool:
    """Teach Pillow to read HEIC images if pillow-heif is installed; returns whether it is."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    return True


@functools.cache
def _decodable() -> list[str]:
    """The formats that are tried; those without an extension of their own take almost any content, and are left out."""
    return sorted({kind for kind in _FORMATS.values() if kind not in _NOT_DECODED and (kind != "HEIF" or _register_heif())})


def decoder_versions() -> str:
    """What decides how a file is decoded: cached results of other versions do not count."""
    heif = importlib.metadata.version("pillow-heif") if _register_heif() else "none"
    return f"2, Pillow {PIL.__version__}, pillow-heif {heif}, limits {MAX_PIXELS} {MAX_BYTES}"


def _refuse_large(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")


def _numbers_to_grey(image: Image.Image) -> Image.Image:
    """Integers of 12 or 16 bits, or floating-point numbers, by the range of their type; see `read_rgb`."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # written so that NaN is refused
        raise ValueError("numbers outside 0 to 65,535, whose range the file does not tell: save it with 8 or 16 bits")
    if image.mode == "F":
        white = next(limit for limit in (1, 255, 65535) if high <= limit)
        return Image.fromarray(np.rint(values * np.float32(255 / white)).astype(np.uint8))
    white = 4095 if tuple(getattr(image, "tag_v2", {}).get(258, ())) == (12,) else 65535
    grey = ((np.arange(65536) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)[values]
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _over_white(image: Image.Image) -> Image.Image:
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), clear).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata tell nothing, and the pixels are whole: shown as stored, as every viewer does
        return 1


def _decode(stream: BufferedReader) -> Image.Image:
    try:
        opened = Image.open(stream, formats=_decodable())
    except UnidentifiedImageError:  # its message names the stream
        stream.seek(4)
        hint = _HEIC_HINT if stream.read(4) == b"ftyp" and not _register_heif() else ""
        raise ValueError(f"of no known format{hint}") from None
    with opened as image:
        _refuse_large(image)
        with _ONE_LARGE if image.width * image.height > LARGE_PIXELS else nullcontext():
            image.load()
            _refuse_large(image)  # some formats tell their real size only now
            turn, rgb = _TURNS.get(_orientation(image)), cast("Image.Image", image)
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                rgb = _numbers_to_grey(image)
            elif image.mode == "LAB":
                lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
                rgb = cast("Image.Image", ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))  # None only in place
            rgb = _over_white(rgb) if rgb.has_transparency_data else rgb.convert("RGB")
            return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _opened(path: str | Path) -> Iterator[BufferedReader]:
    """The open file; whatever goes wrong while it is used becomes an `UnusablePicture` with Pillow's reason, or the system's."""
    name = printable(Path(path).name)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for ever
            raise ValueError("no regular file")
        if not 0 < info.st_size <= MAX_BYTES:
            raise ValueError(f"{info.st_size:,} bytes; 1 to {MAX_BYTES:,} can be read")
        with open(path, "rb") as stream:
            yield stream
    except MemoryError as error:
        raise UnusablePicture(name, "does not fit into memory: reduce it", passing=True) from error
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        if isinstance(error, OSError) and error.errno:
            reason = f"cannot be opened ({error.strerror}): make it readable, or remove it"
            raise UnusablePicture(name, reason, passing=True) from error
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnusablePicture(name, f"cannot be read as an image ({why}): replace or remove it") from error


def read_rgb(path: str | Path) -> Image.Image:
    """Decode an image as upright 8-bit RGB.

    The content decides about the format, not the extension. EXIF orientation is applied; palettes, CMYK, YCbCr and LAB are
    converted; transparency is laid over white; of an animation the first frame is taken. 16-bit grey is scaled by the range of
    its type (65,535 is white; 4,095 in a 12-bit TIFF), never by its brightest pixel. Files do not tell the range of
    floating-point numbers: the smallest of 0 to 1, 0 to 255 and 0 to 65,535 that holds them all is taken.

    An `UnusablePicture` if the file is empty, no image, cut short or damaged, has more than `MAX_PIXELS` pixels (checked before
    anything is decoded) or `MAX_BYTES` bytes, holds numbers of unknown range, is a HEIC image while pillow-heif is not installed,
    or cannot be opened.
    """
    with _opened(path) as stream:
        return _decode(stream)


def pixel_hash(picture: Image.Image) -> str:
    """Sha256, in hex, of the size and the pixels of an image in mode ``RGB``."""
    pixels = hashlib.sha256(repr(picture.size).encode())
    for top in range(0, picture.height, STRIP):
        pixels.update(picture.crop((0, top, picture.width, min(top + STRIP, picture.height))).tobytes())
    return pixels.hexdigest()


def describe(path: str | Path) -> tuple[str, str, int, int]:
    """What a manifest holds of an image: sha256 of the file, `pixel_hash`, upright width and height; raises as `read_rgb`."""
    with _opened(path) as stream:
        image = _decode(stream)
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest(), pixel_hash(image), image.width, image.height
