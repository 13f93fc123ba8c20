"""An image of any mode, depth and format is what its numbers say, to 1 % of the range, or is refused by name."""

import colorsys
import io
import struct
import zlib
from collections import Counter

import numpy as np
from counts import cases, told
from PIL import Image

from unlearnkit.builtin.data.pictures import opened, square
from unlearnkit.errors import UserError

WRITTEN = ("PNG", "TIFF", "TIFF lzw", "TIFF packbits", "JPEG", "JPEG progressive", "WEBP", "WEBP lossy", "GIF", "BMP",
           "PPM", "JPEG2000", "memory")  # fmt: skip
OPTIONS = {"TIFF lzw": {"compression": "tiff_lzw"}, "TIFF packbits": {"compression": "packbits"},
           "JPEG": {"quality": 92}, "JPEG progressive": {"quality": 97, "progressive": True, "subsampling": 0},
           "WEBP": {"lossless": True}, "WEBP lossy": {"quality": 90}}  # fmt: skip
TURNED = {
    1: lambda image: image, 2: lambda image: image[:, ::-1], 3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1], 5: lambda image: image.swapaxes(0, 1), 6: lambda image: np.rot90(image, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1), 8: lambda image: np.rot90(image, -1),
}  # fmt: skip
"""How an image is stored that looks upright with an orientation."""
Drawn = np.random.Generator


def smooth(draw: Drawn, height: int, width: int, channels: int) -> np.ndarray:
    """Return an image in [0, 1] that changes slowly, so that scaling does not change its parts."""
    low = draw.uniform(0, 0.8)
    corners = draw.uniform(low, draw.uniform(low + 0.05, 1), (2, 2, channels))
    down, right = (np.linspace(0, 1, side) for side in (height, width))
    rows = corners[0] + down[:, None, None] * (corners[1] - corners[0])
    return rows[:, 0, None] + right[None, :, None] * (rows[:, 1, None] - rows[:, 0, None])


def levels(image: np.ndarray, white: int) -> np.ndarray:
    return (image * white).round().astype(np.uint32)


def grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., :1], 3, -1)


# What Pillow keeps in memory, by its names of modes: pixels of a smooth image and the colours they stand for.


def eight(mode: str, image: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Return an image of 8 bits a channel and its colours in [0, 1]."""
    stored = levels(image, 255).astype(np.uint8)
    shown = stored / 255
    match mode:
        case "L" | "LA":
            return made(mode, stored), grey(shown)
        case "RGB" | "RGBA" | "RGBX":
            return made(mode, stored), shown[..., :3]
        case "CMYK":
            return made(mode, stored), (1 - shown[..., :3]) * (1 - shown[..., 3:])
        case "YCbCr":
            stored[..., 1:] = 96 + stored[..., 1:] // 4  # colours that there are
            y, blue, red = np.moveaxis(stored.astype(float), -1, 0) - np.array([0, 128, 128])[:, None, None]
            shown = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], -1) / 255
            return made(mode, stored), shown.clip(0, 1)
        case "HSV":
            colours = [colorsys.hsv_to_rgb(*pixel) for pixel in shown.reshape(-1, 3)]
            return made(mode, stored), np.reshape(colours, shown.shape)
        case "LAB":
            stored[..., 0] = 60 + stored[..., 0] // 2
            stored[..., 1:] = 118 + stored[..., 1:] // 12
            return made(mode, stored), lab(stored.astype(float))
    raise AssertionError(mode)


def made(mode: str, stored: np.ndarray) -> Image.Image:
    if mode == "LAB":  # whose raw bytes have signs
        stored = stored ^ np.array([0, 128, 128], np.uint8)
    return Image.frombytes(mode, stored.shape[1::-1], np.ascontiguousarray(stored).tobytes())


def lab(stored: np.ndarray) -> np.ndarray:
    """Return sRGB of CIE L*a*b* over D50, as its definition and Bradford's matrix give it."""
    light, a, b = stored[..., 0] / 2.55, stored[..., 1] - 128, stored[..., 2] - 128
    middle = (light + 16) / 116
    roots = np.stack([middle + a / 500, middle, middle - b / 200], -1)
    white = np.array([0.96422, 1.0, 0.82521])
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * white
    matrix = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                       [0.0719453, -0.2289914, 1.4052427]])  # fmt: skip
    linear = (xyz @ matrix.T).clip(0, 1)
    return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "RGBX": 4, "CMYK": 4, "YCbCr": 3, "HSV": 3, "LAB": 3}
KEEPS = {
    "PNG": ("L", "LA", "RGB", "RGBA"), "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"),
    "TIFF lzw": ("L", "LA", "RGB", "RGBA", "CMYK"), "TIFF packbits": ("L", "RGB", "CMYK"),
    "JPEG": ("L", "RGB", "CMYK"), "JPEG progressive": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA"),
    "WEBP lossy": ("RGB", "RGBA"), "GIF": ("L", "RGB"), "BMP": ("L", "RGB", "RGBA"), "PPM": ("L", "RGB"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA"), "memory": tuple(CHANNELS),
}  # fmt: skip


def in_eight_bits(draw: Drawn, form: str, mode: str, image: np.ndarray, turn: int):
    picture, shown = eight(mode, image[..., : CHANNELS[mode]])
    if mode in ("L", "RGB") and form in ("PNG", "memory") and draw.random() < 0.3:
        picture.info["transparency"] = int(draw.integers(256)) if mode == "L" else (1, 2, 3)
    return saved(picture, form, turn), shown


def saved(picture: Image.Image, form: str, turn: int = 1) -> object:
    if form == "memory":
        return picture
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[274] = turn
    kind, options = form.split(" ")[0], dict(OPTIONS.get(form, {}))
    if turn != 1:
        options["exif"] = exif
    if kind == "GIF" and picture.mode == "RGB":
        picture = picture.quantize(255, dither=Image.Dither.NONE)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def bits(draw: Drawn, form: str, image: np.ndarray):
    """Return black and white in large parts, which scaling leaves as they are on the whole."""
    white = image[..., 0] > np.quantile(image[..., 0], draw.uniform(0.2, 0.8))
    picture = Image.fromarray((white * 255).astype(np.uint8)).convert("1", dither=Image.Dither.NONE)
    return saved(picture, form), np.repeat(white[..., None], 3, -1).astype(float)


def palette(draw: Drawn, form: str, image: np.ndarray):
    """Return numbers of colours, their alpha as bytes, as one number or not at all."""
    ends = draw.integers(0, 256, (2, 3))
    colours = np.linspace(*ends, 256).round().astype(np.uint8)
    stored = levels(image[..., 0], 255).astype(np.uint8)
    picture = Image.fromarray(stored)
    picture.putpalette(colours.tobytes())
    clear = draw.integers(3)
    if form != "BMP" and form != "TIFF" and clear:
        picture.info["transparency"] = bytes(range(256)) if clear == 1 and form != "GIF" else 7
    return saved(picture, form), colours[stored] / 255


def sixteen(draw: Drawn, form: str, image: np.ndarray):
    """Return grey of 16 bits in either order of bytes."""
    stored = levels(image[..., 0], 65535)
    mode = str(draw.choice(["I;16", "I;16B", "I;16L", "I;16N", "I"])) if form == "memory" else "I;16"
    if form == "TIFF" and draw.random() < 0.5:
        mode = "I;16B"
    kind = {"I;16B": ">u2", "I": "<i4"}.get(mode, "<u2")
    picture = Image.frombytes(mode, stored.shape[::-1], stored.astype(kind).tobytes())
    return saved(picture, form), np.repeat(stored[..., None] / 65535, 3, -1)


def decimal(draw: Drawn, form: str, image: np.ndarray):
    """Return grey of decimal numbers in [0, 1]."""
    picture = Image.fromarray(image[..., 0].astype(np.float32))
    return saved(picture, form), grey(image)


# What Pillow reads and does not write.


def png(draw: Drawn, image: np.ndarray):
    """Return a PNG of 16 bits a channel, or of 1, 2 or 4 bits of grey, or interlaced."""
    height, width = image.shape[:2]
    kind, channels = [(0, 1), (2, 3), (4, 2), (6, 4)][draw.integers(4)]
    if draw.random() < 0.3:
        depth, kind, channels = int(draw.choice([2, 4])), 0, 1
        stored = levels(image[..., :1], 2**depth - 1)
        shown = grey(stored / (2**depth - 1))
        row_bits = np.unpackbits(stored[..., 0].astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = np.packbits(row_bits.reshape(height, -1), 1)
    else:
        depth = 16
        stored = levels(image[..., :channels], 65535)
        shown = grey(stored / 65535) if channels < 3 else stored[..., :3] / 65535
        rows = stored.astype(">u2").reshape(height, -1).view(np.uint8)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ), shown


SAMPLES = {1: "unsigned", 2: "signed", 3: "float"}


def tiff(draw: Drawn, image: np.ndarray):
    """Return a TIFF with any depth, numbers, order of bytes and meaning of zero, its pixels as they are."""
    end = str(draw.choice(["<", ">"]))
    channels, kind = int(draw.choice([1, 3])), int(draw.choice([1, 1, 1, 2, 3]))
    depth = int(draw.choice({1: [8, 12, 16, 32], 2: [8, 16, 32], 3: [16, 32, 64]}[kind]))
    inverted = channels == 1 and kind == 1 and draw.random() < 0.4
    part = image[..., :channels]
    if kind == 3:
        packed, shown = part.astype(f"{end}f{depth // 8}").tobytes(), part
    elif depth == 12:
        stored = levels(part, 4095)
        shown = stored / 4095
        rows = stored.reshape(len(stored), -1).astype(">u2")
        row_bits = np.unpackbits(rows.view(np.uint8), axis=1).reshape(len(rows), -1, 16)[..., 4:]
        packed = np.packbits(row_bits.reshape(len(rows), -1), 1).tobytes()
    else:
        white = 2 ** (depth - (kind == 2)) - 1
        stored = np.round(part * white)
        shown = stored / white
        packed = stored.astype(f"{end}{'ui'[kind - 1]}{depth // 8}").tobytes()
    shown = 1 - shown if inverted else shown
    height, width = image.shape[:2]
    meaning = 2 if channels == 3 else int(not inverted)
    fields = [(256, 3, width), (257, 3, height), (258, 3, depth), (259, 3, 1), (262, 3, meaning), (273, 4, 0),
              (277, 3, channels), (278, 3, height), (279, 4, len(packed)), (339, 3, kind)]  # fmt: skip
    after = 8 + 2 + 12 * len(fields) + 4
    more = struct.pack(f"{end}3H", *[depth] * 3) + struct.pack(f"{end}3H", *[kind] * 3)
    entries = b""
    for tag, of, value in fields:
        if tag == 273:
            value = after + len(more)
        if channels == 3 and tag in (258, 339):
            entries += struct.pack(f"{end}HHII", tag, 3, 3, after + 6 * (tag == 339))
        else:
            entries += struct.pack(f"{end}HHI", tag, of, 1) + struct.pack(
                f"{end}{'HH' if of == 3 else 'I'}", *([value, 0] if of == 3 else [value])
            )
    head = (b"II*\0" if end == "<" else b"MM\0*") + struct.pack(f"{end}IH", 8, len(fields))
    return head + entries + struct.pack(f"{end}I", 0) + more + packed, shown if channels == 3 else grey(shown)


def ppm(draw: Drawn, image: np.ndarray):
    """Return a PGM or PPM, as text or bytes, with any white; or a PFM of decimal numbers."""
    number = int(draw.choice([2, 3, 5, 6]))
    channels = 1 if number in (2, 5) else 3
    size = f"{image.shape[1]} {image.shape[0]}"
    if draw.random() < 0.15:
        end = draw.choice(["<", ">"])
        rows = image[::-1, :, 0].astype(f"{end}f4").tobytes()
        return f"Pf\n{size}\n{-1.0 if end == '<' else 1.0}\n".encode() + rows, grey(image)
    white = int(draw.choice([15, 100, 255, 1023, 4095, 65535]))
    stored = levels(image[..., :channels], white)
    shown = stored / white if channels == 3 else grey(stored / white)
    head = f"P{number}\n# a remark\n{size}\n{white}\n".encode()
    if number < 4:
        return head + " ".join(map(str, stored.ravel())).encode(), shown
    return head + stored.astype("u1" if white < 256 else ">u2").tobytes(), shown


MADE = {
    **{f"{mode}, {form}": lambda draw, image, turn, form=form, mode=mode: in_eight_bits(draw, form, mode, image, turn)
       for form in WRITTEN for mode in KEEPS[form]},
    **{f"1, {form}": lambda draw, image, turn, form=form: bits(draw, form, image)
       for form in ("PNG", "TIFF", "BMP", "PPM", "GIF", "memory")},
    **{f"P, {form}": lambda draw, image, turn, form=form: palette(draw, form, image)
       for form in ("PNG", "GIF", "TIFF", "BMP", "memory")},
    **{f"16 bits, {form}": lambda draw, image, turn, form=form: sixteen(draw, form, image)
       for form in ("PNG", "TIFF", "PPM", "JPEG2000", "memory")},
    **{f"F, {form}": lambda draw, image, turn, form=form: decimal(draw, form, image)
       for form in ("TIFF", "TIFF lzw", "PPM", "memory")},
    **{f"{make.__name__} by hand {number}": lambda draw, image, turn, make=make: make(draw, image)
       for make in (png, tiff, ppm) for number in range(5)},
}  # fmt: skip
TURNS = ("PNG", "JPEG", "JPEG progressive", "WEBP", "WEBP lossy")
"""Formats with an EXIF block."""


def parts(image: np.ndarray) -> np.ndarray:
    """Return the means of the quarters of an image [H, W, 3], as [2, 2, 3]."""
    middle = len(image) // 2
    rows = [(half[:, :middle].mean((0, 1)), half[:, middle:].mean((0, 1))) for half in (image[:middle], image[middle:])]
    return np.array(rows)


def test_images_of_every_mode_and_depth_keep_their_mean_or_are_refused_by_name():
    broken, seeds, refused = list[str](), cases(2000, len(MADE)), Counter[str]()
    for seed in seeds:
        name = list(MADE)[seed % len(MADE)]
        draw = np.random.default_rng([seed, 2])
        side, longer = 2 * int(draw.integers(10, 24)), 2 * int(draw.integers(0, 9))
        upright = smooth(draw, *((side, side + longer) if draw.random() < 0.5 else (side + longer, side)), 4)
        can = name.split(", ")[-1] in TURNS and not name.startswith(("1,", "P,", "16"))
        turn = int(draw.integers(1, 9)) if can else 1
        data, shown = MADE[name](draw, TURNED[turn](upright), turn)
        shown = TURNED[{6: 8, 8: 6}.get(turn, turn)](shown)
        top, left = ((length - side) // 2 for length in shown.shape[:2])
        expected = parts(shown[top : top + side, left : left + side])
        size = side if name.startswith("1,") else int(draw.choice([side, side // 2 * 2 - 4, 2 * side]))
        try:
            read = square(
                lambda data=data: data if isinstance(data, Image.Image) else opened(io.BytesIO(data)),
                "it",
                size,
                enlarge=True,
            )
        except UserError as error:
            refused[name.split(" by")[0]] += 1
            if not str(error).startswith("it: not a readable image ("):
                broken.append(f"{seed} ({name}): {error}")
            continue
        except Exception as error:
            broken.append(f"{seed} ({name}): {type(error).__name__}: {error}")
            continue
        found = parts(read.permute(1, 2, 0).double().numpy() / 255)
        if abs(found - expected).max() > 0.01:
            told_of = f"{(found - expected).ravel().round(3).tolist()}"
            broken.append(f"{seed} ({name}): off by {told_of}, mean {shown.mean():.3f}")
    assert not broken, told(broken, len(seeds))
    # Decimal numbers of 16 or 64 bits, three channels of 12 bits and the like, whole numbers with signs or of 32 bits.
    assert set(refused) == {"tiff"}
    assert refused.total() < 0.1 * len(seeds)
