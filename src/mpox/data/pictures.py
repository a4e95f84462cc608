"""Decoding: from any file that Pillow can read to upright RGB pixels, or one sentence that says why not."""

import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import PIL
from PIL import Image, ImageCms, UnidentifiedImageError

from mpox._core import MpoxError

#: A picture above this many pixels is rejected before it is decoded (a decompression bomb, or a scan to be reduced first).
MAX_PIXELS = 100_000_000
#: A file above this size is rejected before it is opened; an uncompressed picture of `MAX_PIXELS` pixels is smaller.
MAX_BYTES = 2**30
#: Pictures above this many pixels are decoded one at a time, however many threads there are.
LARGE_PIXELS = 20_000_000
#: Rows that are converted at once where a whole copy of a picture would be too large.
STRIP = 1024
#: Formats of Pillow that are left out: they call other programs, have no decoder, or unpack before their size is known.
_NOT_DECODED = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}
_HEIF_EXTENSIONS = {".heic", ".heif", ".hif"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}

Image.init()
_FORMATS = {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} | dict.fromkeys(
    _HEIF_EXTENSIONS, "HEIF"
)
#: The extensions of pictures: suffixes in lower case, with the dot.
EXTENSIONS = frozenset(suffix for suffix, kind in _FORMATS.items() if kind not in _NOT_DECODED)

#: Errors of the machine, not of the file: they may be gone the next time.
_PASSING = {errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}
_ONE_LARGE = threading.Lock()
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusablePicture(MpoxError):
    """A file that cannot be used as a picture.

    Parameters
    ----------
    name : str
        The file's name, for people.
    reason : str
        The rest of the sentence: what is wrong and what to do.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name} {reason}.")
        self.reason = reason


class _Unfit(Exception):
    """Within this module: the reason why a picture cannot be used."""


class _QuietDecoders:
    """While any thread decodes, warnings are off: `warnings.catch_warnings` alone is not safe with threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._depth = 0

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._depth += 1

    def __exit__(self, *_):
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._saved.__exit__(None, None, None)


_QUIET = _QuietDecoders()


def printable(name: str) -> str:
    r"""A file name as text that can be printed and written: bytes that are not UTF-8 become ``\xNN``.

    Examples
    --------
    >>> printable("a" + chr(0xdcff))
    'a\\xff'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_printable(name: str) -> bool:
    """Whether a file name is UTF-8."""
    return name.isascii() or printable(name) == name


@functools.cache
def _register_heif() -> bool:
    """Teach Pillow to read HEIC pictures if pillow-heif is installed; returns whether it is."""
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
    return f"1, Pillow {PIL.__version__}, pillow-heif {heif}, limits {MAX_PIXELS} {MAX_BYTES}"


def _what_instead(stream: BinaryIO) -> str:
    """What the content of a file is that no decoder takes."""
    stream.seek(0)
    head = stream.read(512)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not _register_heif():
        return 'is a HEIC picture, which needs an extra package: run `pip install "mpox[heic]"`, or save it as JPEG'
    text = head.decode("utf-8", "replace").rstrip("\ufffd")  # the last character may be cut
    is_text = "\ufffd" not in text and all(letter.isprintable() or letter.isspace() for letter in text)
    found = "its content is text" if is_text else "its content is of no known format"
    return f"cannot be read as a picture ({found}): replace or remove it"


def _refuse_large(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise _Unfit(f"has {picture.width} x {picture.height} pixels, more than {MAX_PIXELS:,}: reduce it")


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata tell nothing, and the pixels are whole: shown as stored, as every viewer does
        return 1


def _full_scale(picture: Image.Image) -> int:
    """The value that stands for white in a picture of 16-bit (or 12-bit) integers, as the file declares it."""
    bits = getattr(picture, "tag_v2", {}).get(258, (16,))
    return 4095 if tuple(bits) == (12,) else 65535


def _integers_to_grey(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    white = _full_scale(picture)
    if picture.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise _Unfit("stores integers outside 0 to 65,535, whose range it does not tell: save it with 8 or 16 bits")
    table = ((np.arange(65536) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    grey = table[values]
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _floats_to_grey(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # written so that NaN is refused
        raise _Unfit("stores floating-point numbers outside 0 to 65,535, whose range it does not tell: save it with 8 or 16 bits")
    white = next(limit for limit in (1, 255, 65535) if high <= limit)
    return Image.fromarray(np.rint(values * np.float32(255 / white)).astype(np.uint8))


def _over_white(picture: Image.Image) -> Image.Image:
    """Lay a transparent picture over white, strip by strip."""
    if picture.mode == "La":
        picture = picture.convert("LA")
    result = Image.new("RGB", picture.size)
    for top in range(0, picture.height, STRIP):
        strip = picture.crop((0, top, picture.width, min(top + STRIP, picture.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return result


def _to_rgb(picture: Image.Image) -> Image.Image:
    picture.load()
    _refuse_large(picture)  # some formats tell their real size only now
    orientation = _orientation(picture)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = _integers_to_grey(picture)
    elif picture.mode == "F":
        picture = _floats_to_grey(picture)
    elif picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        picture = cast("Image.Image", ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB"))  # None only in place
    picture = _over_white(picture) if picture.has_transparency_data else picture.convert("RGB")
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


@contextmanager
def _decoded(path: str | Path) -> Iterator[tuple[BufferedReader, Image.Image]]:
    """The open file and its pixels.

    Raises
    ------
    UnusablePicture
        If the content is no picture.
    OSError, MemoryError
        If the file cannot be opened, or memory is short: that may be otherwise the next time.
    """
    name = printable(Path(path).name)
    info = Path(path).stat()
    try:
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for ever
            raise _Unfit("is no regular file: replace or remove it")
        if info.st_size == 0:
            raise _Unfit("is empty (0 bytes): replace or remove it")
        if info.st_size > MAX_BYTES:
            raise _Unfit(f"has {info.st_size:,} bytes, more than {MAX_BYTES:,}: reduce it")
    except _Unfit as error:
        raise UnusablePicture(name, str(error)) from None
    with open(path, "rb") as stream, _QUIET:
        try:
            with Image.open(stream, formats=_decodable()) as picture:
                _refuse_large(picture)
                with _ONE_LARGE if picture.width * picture.height > LARGE_PIXELS else nullcontext():
                    yield stream, _to_rgb(picture)
        except (UnusablePicture, MemoryError):
            raise
        except _Unfit as error:
            raise UnusablePicture(name, str(error)) from None
        except Image.DecompressionBombError as error:
            raise UnusablePicture(name, "has more pixels than can be decoded safely: reduce it") from error
        except UnidentifiedImageError as error:
            raise UnusablePicture(name, _what_instead(stream)) from error
        except Exception as error:  # Pillow's decoders raise many types on damaged files
            if isinstance(error, OSError) and error.errno in _PASSING:
                raise
            reason = f"cannot be read as a picture ({error or type(error).__name__}): replace or remove it"
            raise UnusablePicture(name, reason) from error


def read_rgb(path: str | Path) -> Image.Image:
    """Decode a picture as upright 8-bit RGB.

    The content decides about the format, not the extension. EXIF orientation is applied; palettes, CMYK, YCbCr and LAB are
    converted; transparency is laid over white; of an animation the first frame is taken. 16-bit grey is scaled by the range of
    its type (65,535 is white; 4,095 in a 12-bit TIFF), never by its brightest pixel. Files do not tell the range of
    floating-point numbers: the smallest of 0 to 1, 0 to 255 and 0 to 65,535 that holds them all is taken.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``.

    Raises
    ------
    UnusablePicture
        If the file is empty, no picture, cut short or damaged, has more than `MAX_PIXELS` pixels (checked before anything is
        decoded) or `MAX_BYTES` bytes, holds numbers of unknown range, is a HEIC picture while pillow-heif is not installed,
        or cannot be opened.
    """
    try:
        with _decoded(path) as (_, picture):
            return picture
    except (OSError, MemoryError) as error:
        raise UnusablePicture(printable(Path(path).name), explain_failure(error)) from error


def pixel_hash(picture: Image.Image) -> str:
    """Sha256, in hex, of the size and the pixels of a picture in mode ``RGB``."""
    pixels = hashlib.sha256(repr(picture.size).encode())
    for top in range(0, picture.height, STRIP):
        pixels.update(picture.crop((0, top, picture.width, min(top + STRIP, picture.height))).tobytes())
    return pixels.hexdigest()


def explain_failure(error: OSError | MemoryError) -> str:
    """The reason why a file cannot be used that could not be opened, or that memory is too short for."""
    if isinstance(error, MemoryError):
        return "does not fit into memory: reduce it"
    return f"cannot be opened ({error.strerror or error}): make it readable, or remove it"


def describe(path: str | Path) -> tuple[str, str, int, int]:
    """The facts about a picture that a manifest holds.

    Returns
    -------
    sha256 : str
        Of the file, in hex.
    pixel_sha256 : str
        Of the size and the decoded RGB pixels (see `read_rgb`), in hex.
    width, height : int
        In pixels, upright.

    Raises
    ------
    UnusablePicture
        See `read_rgb`.
    OSError, MemoryError
        If the file cannot be opened, or memory is short: that may be otherwise the next time.
    """
    with _decoded(path) as (stream, picture):
        pixels = pixel_hash(picture)
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest(), pixels, picture.width, picture.height
