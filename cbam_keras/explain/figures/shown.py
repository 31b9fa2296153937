"""`ShownFigure`: a figure that a notebook shows as the result of a cell."""

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure of matplotlib that displays itself, without `%matplotlib`.

    IPython knows how to show a `Figure` only after `%matplotlib inline` or an
    import of pyplot with its backend. Any object can show itself by a method of
    this name. With the magic, IPython's own picture is taken instead, so the
    figure is never shown twice.
    """

    def _repr_png_(self) -> bytes:
        """Returns the figure as a PNG file, in its own resolution."""
        file = io.BytesIO()
        # IPython's own pictures are cropped in the same way.
        self.savefig(file, format="png", dpi=self.dpi, bbox_inches="tight")
        return file.getvalue()
