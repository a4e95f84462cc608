"""Decoding: pictures of every mode become upright RGB, and a bad file becomes one sentence."""

import hashlib
import io
import logging
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from skimage.color import lab2rgb

import mpox.data.pictures
from mpox._core import MpoxError
from mpox.data.pictures import EXTENSIONS, UnusablePicture, describe, read_rgb


def picture(seed: int = 0, size: tuple[int, int] = (20, 12)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size, its pixels missing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return start + struct.pack(">I", 1000) + b"IDAT" + zlib.compress(bytes(1000))


def colours(path) -> np.ndarray:
    result = read_rgb(path)
    assert result.mode == "RGB"
    return np.asarray(result).astype(int)


@pytest.mark.parametrize(("size", "reason"), [((60_000, 60_000), "exceeds limit"), ((12_000, 9_000), "more than 100,000,000")])
def test_a_decompression_bomb_is_refused_before_it_takes_memory(tmp_path, size, reason):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_header(*size))
    tracemalloc.start()
    try:
        with pytest.raises(MpoxError, match=f"bomb.png cannot be read as an image .*{reason}"):
            read_rgb(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_picture_of_the_largest_size_is_decoded(tmp_path, monkeypatch):
    """At the limit itself, in strips, and one at a time."""
    monkeypatch.setattr(mpox.data.pictures, "MAX_PIXELS", 60 * 2500)
    monkeypatch.setattr(mpox.data.pictures, "LARGE_PIXELS", 1000)
    values = np.random.default_rng(3).integers(0, 256, (2500, 60, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    image.save(tmp_path / "a.png")
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert np.array_equal(colours(tmp_path / "a.png"), np.asarray(whole))
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(describe, [tmp_path / "a.png"] * 8))
    assert found == {
        (
            hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest(),
            hashlib.sha256(b"(60, 2500)" + whole.tobytes()).hexdigest(),
            60,
            2500,
        )
    }
    picture(0, (60, 2501)).save(tmp_path / "b.png")
    with pytest.raises(UnusablePicture, match="60 x 2501 pixels"):
        read_rgb(tmp_path / "b.png")


@pytest.mark.parametrize(("orientation", "suffix"), zip(range(1, 9), [".png", ".jpg", ".tif", ".webp"] * 2, strict=True))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    """As the EXIF standard words it: which sides of the upright picture the stored first row and first column are."""
    sides = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 16:], upright[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = upright.swapaxes(0, 1) if sides[0] in "lr" else upright
    if "b" in sides:
        stored = stored[::-1] if sides[0] == "b" else stored[:, ::-1]
    if "r" in sides:
        stored = stored[::-1] if sides[0] == "r" else stored[:, ::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif, **options)
    assert np.abs(colours(tmp_path / f"a{suffix}") - upright).max() <= 3
    assert describe(tmp_path / f"a{suffix}")[2:] == (24, 16)
    picture(1).save(tmp_path / "b.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(30))
    assert np.array_equal(colours(tmp_path / "b.png"), np.asarray(picture(1)))  # damaged metadata do not cost the picture


def test_every_mode_becomes_rgb(tmp_path):
    def read(image: Image.Image, suffix: str, **options) -> np.ndarray:
        file = tmp_path / f"{image.mode.replace(';', '')}{suffix}"
        image.save(file, **options)
        return colours(file)

    for mode, suffix in [("RGB", ".jpg"), ("RGB", ".png"), ("L", ".jpg"), ("CMYK", ".jpg"), ("CMYK", ".tif"), ("P", ".png"),
                         ("RGB", ".bmp"), ("YCbCr", ".tif"), ("1", ".png")]:  # fmt: skip
        found = read(picture(3, (70, 50)).convert(mode), suffix)
        assert np.array_equal(found, np.asarray(Image.open(tmp_path / f"{mode}{suffix}").convert("RGB"))), (mode, suffix)
    flat = Image.new("RGB", (16, 16), (200, 40, 40))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    assert np.abs(read(ImageCms.profileToProfile(flat, srgb, lab, outputMode="LAB"), ".tif") - (200, 40, 40)).max() <= 8

    clear = Image.new("RGBA", (16, 16), (200, 40, 40, 0))
    assert (read(clear, ".png") == 255).all()
    assert (read(clear, ".webp") == 255).all()
    half = read(Image.new("LA", (16, 16), (0, 128)), ".png")
    assert np.abs(half - 127).max() <= 1
    assert (read(flat.convert("L"), ".gif", transparency=int(flat.convert("L").getpixel((0, 0)))) == 255).all()


def test_transparent_palettes_lie_over_white(tmp_path):
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([200, 40, 40, 10, 200, 10])
    palette.paste(1, (8, 0, 16, 16))
    palette.save(tmp_path / "one.png", transparency=0)
    palette.save(tmp_path / "one.gif", transparency=0)
    palette.save(tmp_path / "half.png", transparency=bytes([128, 255]))
    for name in ("one.png", "one.gif"):
        result = colours(tmp_path / name)
        assert (result[:, :8] == 255).all() and (result[:, 8:] == (10, 200, 10)).all()
    result = colours(tmp_path / "half.png")
    assert np.abs(result[:, :8] - (227, 147, 147)).max() <= 1 and (result[:, 8:] == (10, 200, 10)).all()
    grey = np.full((40, 40), 1000, np.uint16)
    grey[:20] = 40_000
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=1000)
    result = colours(tmp_path / "grey.png")
    assert (result[20:] == 255).all() and np.abs(result[:20] - 40_000 / 257).max() <= 1


RAMP = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("divisor", [1, 300])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "i.tif", "a.pgm", "a.jp2"])
def test_16_bits_are_scaled_by_their_range_never_by_the_brightest_pixel(tmp_path, divisor, name):
    values = RAMP // divisor  # down to pictures that are almost black
    if name == "i.tif":
        Image.fromarray(values.astype(np.int32)).save(tmp_path / name)
    else:
        Image.fromarray(values).save(tmp_path / name)
    result = colours(tmp_path / name)
    assert (result == result[..., :1]).all()
    assert np.abs(result[..., 0] - values / 257).max() <= 0.51


def test_12_bit_tiffs_are_scaled_by_their_range(tmp_path):
    values = (RAMP // 16).astype(int).ravel()
    packed = np.stack([values[::2] >> 4, (values[::2] & 15) << 4 | values[1::2] >> 8, values[1::2] & 255], 1).astype(np.uint8)
    tags = [(256, 16), (257, 16), (258, 12), (259, 1), (262, 1), (273, 110), (277, 1), (278, 16), (279, 384)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    content = start.replace(struct.pack("<HHIHH", 273, 3, 1, 110, 0), struct.pack("<HHIHH", 273, 3, 1, len(start), 0))
    (tmp_path / "a.tif").write_bytes(content + packed.tobytes())
    assert np.abs(colours(tmp_path / "a.tif")[..., 0] - values.reshape(16, 16) / 4095 * 255).max() <= 0.51


@pytest.mark.parametrize(("top", "white"), [(1.0, 1), (0.02, 1), (200.0, 255), (60_000.0, 65535)])
def test_floating_point_pictures(tmp_path, top, white):
    values = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.abs(colours(tmp_path / "a.tif")[..., 0] - values / white * 255).max() <= 0.51


@pytest.mark.parametrize("values", [np.float32([[-1, 3]]), np.float32([[np.nan, 3]]), np.float32([[np.inf, 3]]),
                                    np.float32([[0, 1e6]]), np.int32([[-5, 5]]), np.int32([[0, 70_000]])], ids=str)  # fmt: skip
def test_numbers_of_unknown_range_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UnusablePicture, match="numbers outside 0 to 65,535"):
        read_rgb(tmp_path / "a.tif")


P3_OTHERS = ((0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))


def icc(space: bytes = b"RGB ", gamma: float = 2.2, red: tuple = (0.5151, 0.2412, -0.0011)) -> bytes:
    """A profile of matrix and curve, by default about Display P3; of grey; or of CMYK, a table in which paper is cream."""

    def numbers(values, scale=65536):
        return b"".join(struct.pack(">i", round(value * scale)) for value in values)

    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + numbers((0.9642, 1, 0.8249))}
    if space == b"RGB ":
        for name, colour in ((b"r", red), (b"g", (0.2919, 0.6922, 0.0419)), (b"b", (0.1572, 0.0666, 0.7841))):
            tags |= {name + b"XYZ": b"XYZ " + bytes(4) + numbers(colour), name + b"TRC": curve}
    elif space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags[b"A2B0"] = cmyk_table()
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table, data = table + name + struct.pack(">II", start + len(data), len(content)), data + content
    pcs, kind = (b"Lab ", b"prtr") if space == b"CMYK" else (b"XYZ ", b"mntr")
    head = struct.pack(">I4xI", start + len(data), 0x02100000) + kind + space + pcs + bytes(12) + b"acsp"
    return (head.ljust(68, b"\0") + numbers((0.9642, 1, 0.8249))).ljust(128, b"\0") + table + data


def cmyk_table() -> bytes:
    """From ink to CIELAB: L* is what all inks leave of 100, a* and b* are those of yellow and magenta ink."""
    c, m, y, k = np.meshgrid(*[[0, 1]] * 4, indexing="ij")
    lab = np.stack([(1 - k) * (3 - c - m - y * 0.4) / 3, 0.5 + (m - c) * 0.2 * (1 - k), 0.5 + (y - m * 0.4) * 0.3 * (1 - k)], -1)
    values = np.rint(lab * 0xFF00).astype(">u2").tobytes()
    linear = np.array([0, 65535], ">u2").tobytes()
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    return b"mft2" + struct.pack(">IBBBx", 0, 4, 3, 2) + matrix + struct.pack(">HH", 2, 2) + linear * 4 + values + linear * 3


def by_hand(values: np.ndarray, red: tuple, gamma: float = 2.2, others: tuple = P3_OTHERS) -> np.ndarray:
    """The profile's formula and that of sRGB (IEC 61966-2-1), written down here once more; 0 to 255."""
    to_xyz = np.transpose([red, *others])
    srgb = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])  # adapted to D50
    linear = ((values / 255.0) ** gamma @ (np.linalg.inv(srgb) @ to_xyz).T).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def save_png(file, image: Image.Image, **chunks: bytes) -> None:
    """A PNG with these chunks right after its header."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    content = stream.getvalue()
    file.write_bytes(content[:33] + b"".join(chunk(kind.encode(), body) for kind, body in chunks.items()) + content[33:])


P3, SRGB = icc(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED = (0.5151, 0.2412, -0.0011)
SKIN = Image.fromarray(np.random.default_rng(5).integers(90, 220, (24, 32, 3), dtype=np.uint8))
GREY = SKIN.convert("L")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_a_colour_profile_is_converted_to_srgb(tmp_path, suffix):
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    SKIN.save(tmp_path / f"plain{suffix}", **options)
    SKIN.save(tmp_path / f"wide{suffix}", icc_profile=P3, **options)
    plain = colours(tmp_path / f"plain{suffix}")
    assert np.abs(colours(tmp_path / f"wide{suffix}") - by_hand(plain, RED)).max() <= 2
    result = read_rgb(tmp_path / f"wide{suffix}")
    assert result.info == {"colour_profile": "ICC profile: converted"}  # and no profile that a copy of it would keep
    assert describe(tmp_path / f"wide{suffix}")[1] != describe(tmp_path / f"plain{suffix}")[1]


def test_profiles_of_grey_palettes_transparency_and_cmyk(tmp_path):
    brighter = 255 * np.where((v := (np.arange(256) / 255) ** 1.0) <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    for image in (GREY, Image.merge("LA", (GREY, Image.new("L", GREY.size, 255))), Image.fromarray(np.uint16(GREY) * 257)):
        image.save(tmp_path / "grey.png", icc_profile=icc(b"GRAY", 1.0))
        assert np.abs(colours(tmp_path / "grey.png") - brighter[np.asarray(GREY)][..., None]).max() <= 1
    palette = SKIN.quantize(16)
    palette.save(tmp_path / "palette.png", icc_profile=P3)
    assert np.abs(colours(tmp_path / "palette.png") - by_hand(np.asarray(palette.convert("RGB")), RED)).max() <= 2
    half = SKIN.copy()
    half.putalpha(128)
    half.save(tmp_path / "half.png", icc_profile=P3)
    mixed = by_hand(np.asarray(SKIN), RED) * 128 / 255 + 127  # the white behind it is that of sRGB
    assert np.abs(colours(tmp_path / "half.png") - mixed).max() <= 2
    for suffix in (".tif", ".jpg"):
        ink = Image.new("CMYK", (16, 16))
        ink.paste((20, 90, 110, 0), (0, 0, 8, 16))
        ink.save(tmp_path / f"ink{suffix}", icc_profile=icc(b"CMYK"), **({"quality": 100} if suffix == ".jpg" else {}))
        c, m, y, _ = np.array([20, 90, 110, 0]) / 255
        lab = 100 * (3 - c - m - 0.4 * y) / 3, (m - c) * 0.2 * 255, (y - 0.4 * m) * 0.3 * 255
        found = colours(tmp_path / f"ink{suffix}")
        assert np.abs(found[8, 3] - 255 * lab2rgb(lab)).max() <= 6
        assert found[8, 12].min() >= 253  # bare paper is white


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("said", [{"icc_profile": SRGB}, {"sRGB": b"\0"}, {"cICP": bytes([1, 13, 0, 1])},
    {"gAMA": struct.pack(">I", 45455)}, {"sRGB": b"\0", "gAMA": struct.pack(">I", 100000)},
    {"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}], ids="+".join)  # fmt: skip
def test_what_is_tagged_srgb_keeps_its_pixels(tmp_path, mode, said):
    image = SKIN.convert(mode)
    image.save(tmp_path / "plain.png")
    if "icc_profile" in said:
        image.save(tmp_path / "tagged.png", **said)
    else:
        save_png(tmp_path / "tagged.png", image, **said)
    assert describe(tmp_path / "tagged.png")[1:] == describe(tmp_path / "plain.png")[1:]
    assert "sRGB" in read_rgb(tmp_path / "tagged.png").info["colour_profile"]
    assert read_rgb(tmp_path / "plain.png").info == {}


WIDE = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
LINEAR = struct.pack(">I", 100000)


@pytest.mark.parametrize(("chunks", "gamma"), [
    ({"gAMA": struct.pack(">I", 55556), "cHRM": WIDE}, 1.8), ({"gAMA": LINEAR, "cHRM": WIDE}, 1.0),
    ({"cICP": bytes([12, 8, 0, 1])}, 1.0),
    ({"cICP": bytes([12, 4, 0, 1]), "iCCP": b"x\0\0" + zlib.compress(SRGB), "sRGB": b"\0"}, 2.2),  # cICP wins
    ({"iCCP": b"x\0\0" + zlib.compress(icc(gamma=1.8)), "gAMA": LINEAR}, 1.8),  # and the profile over gAMA
    ({"iCCP": b"x\0\0broken", "gAMA": LINEAR, "cHRM": WIDE}, 1.0), ({"cICP": b"\1", "gAMA": LINEAR, "cHRM": WIDE}, 1.0),
])  # fmt: skip
def test_the_chunks_of_a_png_tell_its_colours(tmp_path, chunks, gamma):
    save_png(tmp_path / "a.png", SKIN, **chunks)
    assert np.abs(colours(tmp_path / "a.png") - by_hand(np.asarray(SKIN), RED, gamma)).max() <= 3
    assert "converted" in read_rgb(tmp_path / "a.png").info["colour_profile"]


@pytest.mark.parametrize("broken", [b"nothing", b"\0" * 500, P3[:150], P3[:-40], P3.replace(b"acsp", b"xxxx"),
    P3.replace(b"rTRC", b"xTRC"), P3[:128] + bytes(len(P3) - 128), icc(b"GRAY"), icc(b"CMYK"), icc(gamma=0), icc(gamma=40)],
    ids=range(11))  # fmt: skip
def test_a_broken_profile_or_one_for_other_colours_is_ignored_and_named(tmp_path, broken):
    for suffix in (".png", ".tif", ".jpg"):
        SKIN.save(tmp_path / f"plain{suffix}")
        SKIN.save(tmp_path / f"broken{suffix}", icc_profile=broken)
        assert describe(tmp_path / f"broken{suffix}")[1] == describe(tmp_path / f"plain{suffix}")[1]
        said = read_rgb(tmp_path / f"broken{suffix}").info["colour_profile"]
        assert said.startswith("ICC profile ignored: ") and said.isprintable()


@pytest.mark.parametrize("chunks", [{"gAMA": bytes(4)}, {"cHRM": bytes(32)}, {"cHRM": LINEAR * 8}, {"cICP": bytes([9, 16, 0, 1])},
    {"cICP": bytes([12, 13, 1, 1])}, {"cICP": bytes([99, 13, 0, 1])}, {"iCCP": b"x\0\0broken"},
    {"gAMA": b"12"}, {"cHRM": WIDE[:20]}, {"sRGB": b""}, {"iCCP": b""}, {"iCCP": b"name"}, {"gAMA": b"", "cHRM": b""},
    {"gAMA": struct.pack(">I", 10000)}, {"gAMA": struct.pack(">I", 900000)},
    {"cHRM": WIDE[:8] + struct.pack(">2I", 168000, 32000) + WIDE[16:]},
    ], ids=str)  # fmt: skip
def test_chunks_without_a_meaning_are_ignored_and_named(tmp_path, chunks):
    save_png(tmp_path / "a.png", SKIN, **chunks)
    assert np.array_equal(colours(tmp_path / "a.png"), np.asarray(SKIN))
    assert " ignored: " in read_rgb(tmp_path / "a.png").info["colour_profile"]


def test_a_cut_chunk_takes_nothing_from_a_whole_one(tmp_path):
    save_png(tmp_path / "a.png", SKIN, gAMA=b"1", iCCP=b"x\0\0" + zlib.compress(P3))
    assert np.abs(colours(tmp_path / "a.png") - by_hand(np.asarray(SKIN), RED)).max() <= 2
    assert read_rgb(tmp_path / "a.png").info["colour_profile"] == "gAMA ignored: it is cut short; ICC profile: converted"


@pytest.mark.parametrize(("index", "said"), [("R03", "EXIF (Adobe RGB): converted"), ("R98", None)])
def test_adobe_rgb_without_a_profile_is_converted(tmp_path, index, said):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    SKIN.save(tmp_path / "a.jpg", exif=exif)
    SKIN.save(tmp_path / "plain.jpg")
    shown, plain = colours(tmp_path / "a.jpg").astype(int), colours(tmp_path / "plain.jpg").astype(int)
    wanted = by_hand(plain, (0.60974, 0.31111, 0.01947), 563 / 256, ((0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)))
    assert np.abs(shown - (wanted if said else plain)).max() <= 3
    assert read_rgb(tmp_path / "a.jpg").info.get("colour_profile") == said


def test_libtiff_prints_nothing_of_its_own(tmp_path, capfd):
    SKIN.save(tmp_path / "a.tif", compression="tiff_deflate")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[600:1800] = bytes(value ^ 255 for value in content[600:1800])
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(UnusablePicture, match="a.tif cannot be read"):
        read_rgb(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_pillow_logs_nothing_that_names_no_file():
    assert logging.getLogger("PIL").handlers  # without one Python prints what is logged


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert Image.open(tmp_path / f"a{suffix}").n_frames == 3
    assert (colours(tmp_path / f"a{suffix}") == (200, 0, 0)).all()


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "bmp", "tif", "webp", "jp2", "ppm", "tga", "avif"])
def test_files_that_are_cut_short_are_refused(tmp_path, kind):
    picture(0, (120, 90)).save(tmp_path / f"whole.{kind}")
    content = (tmp_path / f"whole.{kind}").read_bytes()
    read_rgb(tmp_path / f"whole.{kind}")
    for part in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / f"cut.{kind}").write_bytes(content[: int(len(content) * part)])
        with pytest.raises(UnusablePicture, match=f"cut.{kind} cannot be read as an image .*: replace or remove it"):
            read_rgb(tmp_path / f"cut.{kind}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"cannot be opened \(No such file or directory\): make it readable, or remove it"),
        (b"", "cannot be read as an image .0 bytes"),
        (b"Dear colleague,\r\nenclosed you find\xc3\xa4", "of no known format"),
        (b"PK\x03\x04" + bytes(range(256)), "of no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n", "of no known format"),
        (b"\0\0\0\x18ftypheic" + bytes(99), r"pip install .mpox\[heic\]"),
        (2**30 + 1, "1,073,741,825 bytes; 1 to 1,073,741,824 can be read"),
    ],
)
def test_files_that_are_no_images_are_one_sentence(tmp_path, content, reason, monkeypatch):
    monkeypatch.setattr(mpox.data.pictures, "_register_heif", lambda: False)
    file = tmp_path / "a.jpg"
    if isinstance(content, int):
        with file.open("wb") as stream:
            stream.truncate(content)  # sparse
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(MpoxError, match=f"^a.jpg .*{reason}") as raised:
        read_rgb(file)
    assert str(tmp_path) not in str(raised.value) and "\n" not in str(raised.value)


def test_a_heic_picture_is_read_where_the_extra_is_installed(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    picture(2, (64, 48)).resize((640, 480)).save(tmp_path / "a.jpg", format="HEIF", quality=95)
    expected = np.asarray(picture(2, (64, 48)).resize((640, 480))).astype(int)
    assert np.abs(colours(tmp_path / "a.jpg") - expected).mean() < 6


def test_formats_that_call_other_programs_are_left_out():
    assert {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif"} <= EXTENSIONS
    assert not {".eps", ".ps", ".wmf", ".emf", ".pdf", ".mpg", ".h5", ".txt", ".csv", ""} & EXTENSIONS


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    picture(1, (40, 40)).save(stream, format=kind)
    return stream.getvalue()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "PCX", "ICO"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 6000),
)
@example(kind="JPEG", changes=[], cut=0)
def test_whatever_the_bytes_are_it_is_a_picture_or_one_sentence(tmp_path, kind, changes, cut):
    content = bytearray(encoded(kind))
    for place, value in changes:
        content[place % len(content)] = value
    (tmp_path / "a.jpg").write_bytes(bytes(content[: len(content) - cut % len(content)]))
    try:
        assert read_rgb(tmp_path / "a.jpg").mode == "RGB"
    except UnusablePicture as error:
        assert "\n" not in str(error) and str(error).startswith("a.jpg ")
