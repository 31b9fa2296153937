"""The settings of `cbam-keras explain`, and their checks."""

import dataclasses

from cbam_keras import _checks, plotting


@dataclasses.dataclass(frozen=True)
class Settings:
    """How images are explained; see `cbam-keras explain --help`.

    Attributes:
        wanted: Name or index of the class to explain, or `None`, which means
            the true class where it is known, else the predicted one.
        layer: Name of the layer, or `None` for the last feature map.
        method: One of `explain.METHODS`.
        head: Name or index of the output, of models with several.
        image_size: Height and width for models that take any, or `None`.
        draw: How many images are drawn and kept as arrays.
        batch_size: Images per batch.
    """

    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    head: int | str | None = None
    image_size: int | None = None
    draw: int = 8
    batch_size: int = 32

    def check(self) -> None:
        """Raises if a number is out of range."""
        _checks.positive_integer("batch_size", self.batch_size)
        most = plotting.MAX_ROWS
        if _checks.positive_integer("draw", self.draw) > most:
            raise ValueError(
                f"`draw` must be at most {most}, or the figure cannot be "
                f"read. Received: draw={self.draw}"
            )
        if self.image_size is not None:
            _checks.positive_integer("image_size", self.image_size)
