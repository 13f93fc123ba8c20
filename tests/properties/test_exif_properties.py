"""Whatever stands in an image's EXIF block: it reads, with the pixels it has, turned in a valid way or not at all."""

import io
import struct
import zlib

import numpy as np
import pytest
from counts import cases, told
from PIL import Image

from unlearnkit.builtin.data.pictures import opened, square

pytestmark = pytest.mark.filterwarnings("ignore")  # of what Pillow skips, which is no error to a user
SIDE = 16
DRAWN = np.random.default_rng(8).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)


def saved(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(DRAWN).save(stream, form, **({"quality": 95} if form == "JPEG" else {"lossless": True}))
    return stream.getvalue()


PLAIN = {form: saved(form) for form in ("JPEG", "PNG", "WEBP")}


def carrying(form: str, block: bytes) -> bytes:
    """Return the image with an EXIF block, which starts with the header of its TIFF."""
    data = PLAIN[form]
    if form == "JPEG":
        block = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", min(len(block) + 2, 65535)) + block[:65533] + data[2:]
    if form == "PNG":
        chunk = b"eXIf" + block
        return data[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    stream = io.BytesIO()
    Image.fromarray(DRAWN).save(stream, "WEBP", lossless=True, exif=block)
    return stream.getvalue()


def block(draw: np.random.Generator, orientation: int) -> bytes:
    """Return a valid block in one of the two orders of bytes, with other entries about the orientation."""
    end = draw.choice(["<", ">"])
    entries = [(274, 3, 1, struct.pack(f"{end}HH", orientation, 0))]
    for tag in sorted(draw.choice([270, 271, 282, 305, 306, 34665, 34853, 36867, 37500, 40965], 3, replace=False)):
        kind = int(draw.choice([1, 2, 3, 4, 7]))  # of these one stands in the entry itself
        entries.append((tag, kind, 1, struct.pack(f"{end}I", draw.integers(0, 90))))
    packed = b"".join(struct.pack(f"{end}HHI", *entry[:3]) + entry[3] for entry in sorted(entries))
    head = (b"II*\0" if end == "<" else b"MM\0*") + struct.pack(f"{end}I", 8)
    return head + struct.pack(f"{end}H", len(entries)) + packed + struct.pack(f"{end}I", 0) + draw.bytes(40)


def spoilt(draw: np.random.Generator, data: bytes) -> bytes:
    """Return a block with bytes changed, cut off, put in or repeated; or any bytes at all."""
    found = bytearray(data)
    match draw.integers(6):
        case 0:
            for _ in range(draw.integers(1, 12)):
                found[draw.integers(len(found))] = draw.integers(256)
        case 1:
            del found[draw.integers(len(found)) :]
        case 2:
            place = draw.integers(len(found))
            found[place:place] = draw.bytes(draw.integers(1, 30))
        case 3:  # lengths and places beyond any file
            place = draw.integers(len(found) - 4)
            found[place : place + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x08"])
        case 4:
            return draw.bytes(draw.integers(0, 300))
        case 5:
            return data[: draw.integers(4, 20)] + data * draw.integers(1, 20)
    return bytes(found)


def read(data: bytes) -> np.ndarray:
    return square(lambda: opened(io.BytesIO(data)), "it", SIDE, enlarge=False).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("form", PLAIN)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_valid_orientation_turns_the_image(form, orientation):
    for seed in cases(40, 4):
        found = read(carrying(form, block(np.random.default_rng(seed), orientation)))
        plain = read(PLAIN[form])
        assert np.array_equal(found, turns(plain)[orientation - 1])


def turns(image: np.ndarray) -> list[np.ndarray]:
    turned = image.transpose(1, 0, 2)
    return [image, image[:, ::-1], image[::-1, ::-1], image[::-1], turned, np.rot90(image, -1),
            turned[::-1, ::-1], np.rot90(image, 1)]  # fmt: skip


def test_a_spoilt_block_changes_no_pixel():
    broken, seeds = list[str](), cases(10_000, 600)
    valid = {form: {one.tobytes() for one in turns(read(data))} for form, data in PLAIN.items()}
    for seed in seeds:
        draw = np.random.default_rng([seed, 1])
        form = str(draw.choice(list(PLAIN)))
        data = carrying(form, spoilt(draw, block(draw, int(draw.integers(0, 12)))))
        try:
            if read(data).tobytes() not in valid[form]:
                broken.append(f"{seed} ({form}): other pixels")
        except Exception as error:
            broken.append(f"{seed} ({form}): {type(error).__name__}: {error}")
    assert not broken, told(broken, len(seeds))
