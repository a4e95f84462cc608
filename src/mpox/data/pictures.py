"""Decoding: from any file that Pillow can read to upright RGB pixels, or one sentence that says why not."""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError, _imaging

from mpox._core import MpoxError

#: An image above this many pixels is rejected before it is decoded (a decompression bomb, or a scan to be reduced first).
MAX_PIXELS = 100_000_000
#: A file above this size is rejected before it is opened; an uncompressed image of `MAX_PIXELS` pixels is smaller.
MAX_BYTES = 2**30
#: Images above this many pixels are decoded one at a time, however many threads there are.
LARGE_PIXELS = 20_000_000
#: Rows that are hashed at once.
STRIP = 1024
#: Raised by one whenever the pixels of some file change; 4: impossible colours are ignored, Adobe RGB is converted.
DECODER = 4
#: Formats of Pillow that are left out: they call other programs, have no decoder, or unpack before their size is known.
_NOT_DECODED = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}

Image.init()
_FORMATS = {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
_FORMATS |= dict.fromkeys((".heic", ".heif", ".hif"), "HEIF")
#: The extensions of images: suffixes in lower case, with the dot.
EXTENSIONS = frozenset(suffix for suffix, kind in _FORMATS.items() if kind not in _NOT_DECODED)

warnings.filterwarnings("ignore", module=r"PIL\.")  # a file that is no good is told by `UnusablePicture`
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(OSError, AttributeError):  # nor does libtiff print lines of its own, which name no file
    _LIBTIFF = ctypes.CDLL(_imaging.__file__)
    _LIBTIFF.TIFFSetErrorHandler(None)
    _LIBTIFF.TIFFSetWarningHandler(None)
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
    return f"{DECODER}, Pillow {PIL.__version__}, pillow-heif {heif}, limits {MAX_PIXELS} {MAX_BYTES}"


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


#: White, red, green, blue (x and y of each) by the numbers of ITU-T H.273, as a PNG's chunk cICP names them.
_D65, _C = (0.3127, 0.329), (0.31, 0.316)
_PRIMARIES = {
    1: (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06), 6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07), 8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046), 11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}  # fmt: skip
_ADOBE = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
#: From stored to linear values: an exponent, or the parametric curve of type 3 of ICC.1.
_SRGB_CURVE, _BT709 = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_TRANSFER = dict.fromkeys((1, 6, 11, 12, 14, 15), _BT709) | {
    4: (2.2,), 5: (2.8,), 7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 0.25, 0.0912), 8: (1.0,), 13: _SRGB_CURVE, 17: (2.6,),
}  # fmt: skip
_D50 = np.array([0.9642, 1, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
#: A profile that moves no colour by more levels than this is sRGB; what different makers call sRGB differs by about two.
_SAME = 3


def _icc(chromaticities: Sequence[float], curve: Sequence[float]) -> bytes:
    """A minimal ICC profile of an RGB space."""
    x, y = np.reshape(chromaticities, (4, 2)).T
    if not ((y > 0) & (x >= 0) & (x + y <= 1)).all():
        raise ValueError("a primary that is no colour")
    xyz = np.stack([x, y, 1 - x - y]) / y
    colours = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    gain = (_BRADFORD @ _D50) / (_BRADFORD @ xyz[:, 0])
    red_green_blue = (np.linalg.inv(_BRADFORD) @ (gain[:, None] * _BRADFORD) @ colours).T

    def numbers(kind: bytes, values: Sequence[float] | np.ndarray) -> bytes:
        return kind + struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))

    bend = numbers(b"para" + struct.pack(">IHH", 0, 0 if len(curve) == 1 else 3, 0), curve)
    tags = {b"wtpt": numbers(b"XYZ " + bytes(4), _D50)}
    for name, colour in zip((b"r", b"g", b"b"), red_green_blue, strict=True):
        tags |= {name + b"XYZ": numbers(b"XYZ " + bytes(4), colour), name + b"TRC": bend}
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table, data = table + name + struct.pack(">II", start + len(data), len(content)), data + content
    head = struct.pack(">I4xI", start + len(data), 0x04000000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    return numbers(head.ljust(68, b"\0"), _D50).ljust(128, b"\0") + table + data


@functools.lru_cache(maxsize=16)
def _transform(icc: bytes, modes: tuple[str, ...]) -> tuple[str, str, ImageCms.ImageCmsTransform | None]:
    """Name of a profile, the mode it is for, and the way to sRGB, relative colorimetric; none where it is sRGB already."""
    profile, srgb = ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    space = profile.profile.xcolor_space.strip()
    mode = "L" if space == "GRAY" else space
    if mode not in modes:
        raise ValueError(f"for {space} colours, which the image does not have")
    change = ImageCms.buildTransform(profile, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)  # black first, white last
    probe = Image.fromarray(grid)
    probe = probe.getchannel("R") if mode == "L" else probe.convert(mode)
    found = np.asarray(change.apply(probe)).astype(int)
    if found[0, -1].mean() - found[0, 0].mean() < 64 or np.median(found) in (0, 255):
        raise ValueError("it makes most colours black, or white")
    same = mode != "CMYK" and np.abs(found - np.asarray(probe.convert("RGB"))).max() <= _SAME
    name = "".join(letter for letter in profile.profile.profile_description or "" if letter.isprintable()).strip()
    return name[:60], mode, None if same else change


#: How the colour chunks of a PNG begin: Pillow refuses the whole image for one that does not, and passes over cICP.
_CHUNKS = {b"gAMA": b".{4}", b"cHRM": b".{32}", b"sRGB": b".", b"iCCP": rb"[^\0]*\0\0", b"cICP": b""}


def _colour_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, bytes]]:
    """Kind, where it begins, and content of each of `_CHUNKS` that a PNG has."""
    stream.seek(0)
    start, png = 8, stream.read(8) == b"\x89PNG\r\n\x1a\n"
    while png and len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4])
        if head[4:] in _CHUNKS:
            yield head[4:], start, stream.read(length)
        start += length + 12
        stream.seek(start)


def _without_broken_chunks(stream: BinaryIO) -> tuple[BinaryIO, list[str]]:
    """The file without colour chunks that Pillow would refuse it for, and what is said of them."""
    broken = [found for found in _colour_chunks(stream) if not re.match(_CHUNKS[found[0]], found[2], re.DOTALL)]
    for _, start, body in reversed(broken):
        stream.seek(0)
        stream = BytesIO(stream.read(start) + stream.read()[len(body) + 12 :])
    stream.seek(0)
    return stream, [f"{kind.decode()} ignored: it is cut short" for kind, *_ in broken]


def _from_cicp(numbers: bytes) -> bytes:
    if len(numbers) != 4 or numbers[0] not in _PRIMARIES or numbers[1] not in _TRANSFER or numbers[2:] != b"\0\1":
        raise ValueError(f"{'-'.join(map(str, numbers))} cannot be converted to sRGB")
    return _icc(_PRIMARIES[numbers[0]], _TRANSFER[numbers[1]])


def _from_gamma(gamma: float | None, chromaticities: Sequence[float] | None) -> bytes:
    """Of a PNG's chunks gAMA and cHRM. The gamma 1/2.2 stands for the curve of sRGB, as in other decoders."""
    if gamma is not None and not 0.2 <= gamma <= 5:
        raise ValueError(f"a gamma of {gamma}")
    curve = _SRGB_CURVE if gamma is None or abs(gamma * 2.2 - 1) < 0.05 else (1 / gamma,)
    return _icc(_PRIMARIES[1] if chromaticities is None else chromaticities, curve)


def _unpacked(icc: object) -> bytes:
    if not isinstance(icc, bytes):
        raise ValueError("it cannot be unpacked")
    return icc


def _profiles(image: Image.Image, stream: BinaryIO) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """What a file says of its colours, as ICC profiles; what the PNG standard lets win comes first."""
    about, png = image.info, image.format == "PNG"
    if png and (numbers := next((body for kind, _, body in _colour_chunks(stream) if kind == b"cICP"), None)) is not None:
        yield "cICP", lambda: _from_cicp(numbers)
    if "icc_profile" in about:
        yield "ICC profile", lambda: _unpacked(about["icc_profile"])
    if png and "srgb" in about:
        yield "sRGB chunk", lambda: _icc(_PRIMARIES[1], _SRGB_CURVE)
    if png and {"gamma", "chromaticity"} & about.keys():
        yield "gAMA and cHRM", lambda: _from_gamma(about.get("gamma"), about.get("chromaticity"))
    with suppress(Exception):  # damaged metadata tell nothing
        if image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03":  # how a camera says Adobe RGB (DCF 2.0)
            yield "EXIF (Adobe RGB)", lambda: _icc(_ADOBE, (563 / 256,))


def _to_srgb(image: Image.Image, plain: Image.Image, stream: BinaryIO, notes: list[str]) -> tuple[Image.Image, str | None]:
    """The colours of `plain` (the image as RGB or RGBA) as sRGB, and the notes of what was made of what the file says of them."""
    modes: tuple[str, ...] = ("CMYK",) if image.mode == "CMYK" else () if image.mode == "LAB" else ("RGB",)
    if image.mode in ("1", "L", "LA", "La", "F", "I") or image.mode.startswith("I;16"):
        modes += ("L",)
    for kind, profile in _profiles(image, stream):
        try:
            name, mode, change = _transform(profile(), modes)
            if change is not None:
                stored = image if mode == "CMYK" else plain.getchannel("R") if mode == "L" else plain.convert("RGB")
                shown = change.apply(stored)
                if plain.mode == "RGBA":
                    shown.putalpha(plain.getchannel("A"))
                plain = shown
            notes.append(f"{kind}: {'sRGB' if change is None else f'converted from {name}' if name else 'converted'}")
            break
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ArithmeticError, struct.error) as error:
            notes.append(f"{kind} ignored: {' '.join(str(error).split())}")
    return plain, "; ".join(notes) or None


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata tell nothing, and the pixels are whole: shown as stored, as every viewer does
        return 1


def _decode(file: BufferedReader) -> Image.Image:
    stream, notes = _without_broken_chunks(file)
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
            clear = rgb.has_transparency_data
            rgb = (rgb.convert("LA") if rgb.mode == "La" else rgb).convert("RGBA" if clear else "RGB")
            rgb, note = _to_srgb(image, rgb, stream, notes)
            if clear:
                rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
            rgb = rgb if turn is None else rgb.transpose(turn)
            rgb.info = {"colour_profile": note} if note else {}  # no profile that a copy would be saved with
            return rgb


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
    """Decode an image as upright 8-bit sRGB.

    The content decides about the format, not the extension. EXIF orientation is applied; palettes, CMYK, YCbCr and LAB are
    converted. Colours are converted to sRGB (relative colorimetric) by the embedded ICC profile, or by a PNG's cICP, its gAMA and
    cHRM, or a camera's mark of Adobe RGB; what is broken, or made for other colours, is ignored: ``info["colour_profile"]`` says
    so. Without any, or with sRGB, the values stay as they are. Transparency is laid over white; an animation is its first frame.
    16-bit grey is scaled by the range of its type (65,535 is white; 4,095 in a 12-bit TIFF), never by its brightest pixel. Files
    do not tell the range of floating-point numbers: the smallest of 0 to 1, 0 to 255 and 0 to 65,535 that holds all is taken.

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
