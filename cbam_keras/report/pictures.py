"""Pictures within the page, as data."""

import base64
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, plotting

# Larger figures are scaled down, in pixels and bytes.
WIDEST, MOST_BYTES = 2200, 600_000
# Side of an image with its heat, in pixels; larger ones are scaled down.
SIDE = 224
# Below this side PNG is smaller than JPEG, and loses nothing.
SMALL = 96


@dataclasses.dataclass(frozen=True)
class Box:
    """A box over a picture, in % of its width and height."""

    left: float
    top: float
    width: float
    height: float
    text: str
    wrong: bool


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        source: String, a `data:` address.
        alt: String, what can be seen, for those who cannot.
        width: Integer, in pixels.
        height: Integer, in pixels.
        caption: String. Defaults to `""`.
        boxes: Sequence of `Box`. Defaults to none.
    """

    source: str
    alt: str
    width: int
    height: int
    caption: str = ""
    boxes: Sequence[Box] = ()


def of_file(path: pathlib.Path, alt: str, caption: str = "") -> Picture:
    """Returns the figure in a PNG file, scaled down if it is too large."""
    image = _pillow().open(path)
    image.load()
    data = path.read_bytes()
    if image.width > WIDEST or len(data) > MOST_BYTES:
        image.thumbnail((WIDEST // 2, 2 * WIDEST))
        data = _encoded(image, "PNG")
        if len(data) > MOST_BYTES:
            return _picture(image.convert("RGB"), "JPEG", alt, caption)
    return Picture(
        _address(data, "PNG"), alt, image.width, image.height, caption
    )


def of_array(image: np.ndarray, alt: str, caption: str = "") -> Picture:
    """Returns an image `(H, W, 3)` in [0, 1]."""
    drawn = _pillow().fromarray((255 * image).round().astype("uint8"))
    drawn.thumbnail((SIDE, SIDE))
    kind = "PNG" if max(drawn.size) <= SMALL else "JPEG"
    return _picture(drawn, kind, alt, caption)


def in_color(image: np.ndarray) -> np.ndarray:
    """Returns an image `(H, W, C)` in [0, 255] as `(H, W, 3)` in [0, 1]."""
    image = np.asarray(image, "float32") / 255
    return np.broadcast_to(image, (*image.shape[:2], 3)).clip(0, 1)


def with_map(image: np.ndarray, values: np.ndarray, colors: Any) -> np.ndarray:
    """Returns an image `(H, W, 3)` in [0, 1] under a map in [0, 1].

    The map is scaled to the image; `colors` is a colormap with opacity.
    """
    height, width = image.shape[:2]
    rows = np.arange(height) * values.shape[0] // height
    columns = np.arange(width) * values.shape[1] // width
    over = colors(np.clip(values[rows][:, columns], 0, 1))
    # Dimmer than the image, so that the colours stand out.
    gray = (plotting.luminance(image)[..., None] + 0.45) / 1.9
    return gray * (1 - over[..., 3:]) + over[..., :3] * over[..., 3:]


def _picture(image, kind, alt, caption):
    source = _address(_encoded(image, kind), kind)
    return Picture(source, alt, image.width, image.height, caption)


def _encoded(image, kind):
    with io.BytesIO() as file:
        image.save(file, kind, optimize=True, quality=85)
        return file.getvalue()


def _address(data, kind):
    text = base64.b64encode(data).decode()
    return f"data:image/{kind.lower()};base64,{text}"


def _pillow():
    return _checks.require("PIL.Image", extra="plot")
