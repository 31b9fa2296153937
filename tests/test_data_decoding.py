"""What image files hold beyond a whole photograph of 8 bits."""

import contextlib
import io
import os
import re
import struct
import sys
import zlib

import numpy as np
import pytest
from data_checks import joined, write_folder
from PIL import Image, PngImagePlugin

from cbam_keras import data
from cbam_keras.data import decoding

tifffile = pytest.importorskip("tifffile", reason="writes TIFF of any kind")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 40, 3)).astype("uint8")
SMOOTH = np.kron(PIXELS[::8, ::8], np.ones((8, 8, 1), "uint8"))
# 12 bits, as cameras of microscopes and satellites have.
DEEP = RNG.integers(0, 4096, (24, 40, 3)).astype("uint16")
DEEP[0, 0], DEEP[0, 1] = 0, 4095


def _encode(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _png(pixels):
    """Returns a PNG of 16 bits, which Pillow writes of grey only."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    height, width, channels = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    size = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = (b"IHDR", size), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, content in chunks:
        PngImagePlugin.putchunk(file, name, content)
    return file.getvalue()


def _tiff(pixels, photometric="minisblack", **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, **options)
    return file.getvalue()


def _write(root, name, contents):
    """Writes files into folders of two classes in turn."""
    for row, content in enumerate(contents):
        path = root / "ab"[row % 2] / f"{row}_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_size_of_an_image_is_that_of_its_pixels(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _encode(SMOOTH, kind, exif=exif, quality=95)
    head = data.read_header(content)
    pixels = data.pil_decode(content, 3)
    turns = (0, 0, 2, 2, 1, 3, 3, 1)[orientation - 1]
    is_mirrored = orientation in (2, 4, 5, 7)
    upright = np.rot90(SMOOTH[:, ::-1] if is_mirrored else SMOOTH, turns)
    assert pixels.shape == upright.shape
    assert (head.height, head.width) == upright.shape[:2]
    # Some are lossy; another orientation differs by more than 60.
    assert np.abs(pixels.astype(int) - upright).mean() < 9


def test_images_that_cannot_be_decoded_are_left_out(tmp_path, monkeypatch):
    kinds = "AVIF BMP GIF JPEG PNG PPM TIFF WEBP".split()
    kinds = [kind for kind in kinds if kind in data.list_formats()]
    video = b"\0\0\0\x18ftypmp42" + RNG.bytes(9000)
    damaged = {
        "bomb.png": _encode(PIXELS.repeat(3, axis=0), "PNG"),
        "cut.png": _encode(PIXELS, "PNG")[:-30],
        "empty.png": b"",
        "text.jpg": b"<html>not found</html>",
    }
    for kind in kinds:
        content = _encode(PIXELS, kind)
        # A phone appends what happened before and after a photograph.
        _write(tmp_path, f"{kind}.{kind.lower()}", [content, content + video])
        damaged[f"half.{kind.lower()}"] = content[: len(content) // 2]
    content = _encode(PIXELS, "TIFF", compression="tiff_lzw")
    middle = len(content) // 2
    damaged["lzw.tiff"] = (
        content[:middle] + bytes(200) + content[middle + 200 :]
    )
    for name, content in damaged.items():
        (tmp_path / "b" / name).write_bytes(content)
    # More than twice as many pixels are an error of Pillow's.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 960)
    count = len(damaged)
    reasons = f"1 larger than Pillow opens: .*, {count - 1} damaged or of "
    reasons += "another format"
    message = rf"{count} images \({reasons}\).* left out: b/bomb.png, "
    with pytest.warns(UserWarning, match=message) as seen:
        loaded = data.load(tmp_path)
    assert [warning.filename for warning in seen] == [__file__]
    assert sum(loaded.sizes.values()) == 2 * len(kinds)


def test_without_pillow_no_image_is_damaged(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    data.list_formats.cache_clear()
    with pytest.raises(ImportError, match="pip install pillow .*extra `data`"):
        data.load(tmp_path)


def test_an_error_of_reading_is_named_and_is_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("cbam_keras.data.loading.DECODED_BYTES", 0)
    write_folder(tmp_path)
    loaded = data.load(tmp_path, image_size=8)
    paths = loaded.train.examples.images
    os.truncate(paths[0], 80)
    with pytest.raises(ValueError, match=f'"{paths[0]}" cannot be decoded'):
        joined(loaded.train)
    for path in paths:
        os.unlink(path)
    with pytest.raises(ValueError, match="No such file.* repeat the command"):
        joined(loaded.train)

    def fail(item):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decoding, "_open", fail)
    with pytest.raises(ValueError, match='png" cannot .*Input/output'):
        data.load(tmp_path)


GREY = DEEP[..., 0]
SIGNED = GREY.astype("int32") - 1024
# Pillow opens some of these, and takes other values for theirs.
DEEP_FILES = {
    "grey.pgm": _encode(GREY, "PPM"),
    "grey.png": _encode(GREY, "PNG"),
    "grey.tif": _tiff(GREY, byteorder=">"),
    "big.tif": _tiff(DEEP, "rgb", byteorder=">"),
    "color.png": _png(DEEP),
    "color.tif": _tiff(DEEP, "rgb"),
    "float.tif": _tiff((GREY / 4095).astype("float32")),
    "inverted.tif": _tiff(65535 - GREY, "miniswhite"),
    "signed.tif": _tiff(SIGNED.astype("int16")),
    "unsigned_32.tif": _tiff(GREY.astype("uint32")),
}
REFUSED = "of more than 8 bits or with additional bands: convert to 8-bit RGB"


def test_bands_beyond_color_are_named_and_read_as_the_message_says(tmp_path):
    bands = np.zeros((4, 5, 13), "uint16")
    content = _tiff(bands, planarconfig="contig")
    _write(tmp_path, "bands.tif", [content] * 6)
    message = r"6 of 13 bands: read each with tifffile.imread\(path\).*kind="
    with (
        pytest.warns(UserWarning, match="of 13 bands"),
        pytest.raises(ValueError, match=f"can be read.*{message}") as caught,
    ):
        data.load(tmp_path)
    call = re.search(r"tifffile\S+path\)", str(caught.value))[0]
    arrays = [eval(call) for path in sorted(tmp_path.rglob("*.tif"))]
    loaded = data.load((np.stack(arrays), [0, 0, 0, 1, 1, 1]), kind="images")
    assert loaded.input_shape == (4, 5, 13)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["{}.dcm"], {}, "4 .dcm files.*pydicom.dcmread.path..pixel_array"),
        (["a/{}.nii.gz", "b/{}.nii.gz"], {}, "8 .nii.gz .*nibabel.load"),
        (["a/{}.mat"], {}, "scipy.io.loadmat"),
        (["{}.dat"], {"kind": "signals"}, "4 .dat .*numpy.loadtxt"),
    ],
)
def test_files_that_are_not_read_are_named_with_their_package(
    tmp_path, names, options, message
):
    for name in names:
        for number in range(4):
            path = tmp_path / name.format(number)
            path.parent.mkdir(exist_ok=True)
            path.touch()
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, **options)


@pytest.mark.parametrize("name", DEEP_FILES)
def test_more_than_8_bits_are_refused_with_the_way(tmp_path, name):
    write_folder(tmp_path, classes="ab")
    _write(tmp_path, name, [DEEP_FILES[name]] * 3)
    with pytest.warns(UserWarning, match=rf"3 images \(3 {REFUSED}"):
        read = data.Source(tmp_path).read()
    assert len(read.splits["train"]) == 20
    with pytest.raises(ValueError, match=f"cannot be decoded .{REFUSED}"):
        data.pil_decode(DEEP_FILES[name], 3)


def test_a_fourth_band_that_is_not_alpha_is_not_lost(tmp_path):
    """Near infrared beside red, green and blue, which Pillow opens as RGB."""
    bands = np.zeros((4, 4, 4), "uint8")
    for mode, is_read in (("RGBX", False), ("RGBA", True)):
        Image.fromarray(bands, mode).save(tmp_path / "a.tif")
        with open(tmp_path / "a.tif", "rb") as file:
            expected = contextlib.nullcontext()
            if not is_read:
                expected = pytest.raises(NotImplementedError, match="bands")
            with expected:
                decoding.open_image(file)
