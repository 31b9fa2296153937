"""The paper's tables with what our networks count."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence

from cbam_keras import _checks, _terminal, profiling
from cbam_keras.presets.rows import ABLATIONS, PRESETS, Preset, build_preset

__all__ = ["PaperTables", "TableRow", "paper_tables"]

TITLES = {
    1: "Table 1: channel attention on ResNet50",
    2: "Table 2: spatial attention after channel attention, on ResNet50",
    3: "Table 3: arrangement of the two gates, on ResNet50",
    4: "Table 4: ImageNet-1K",
    5: "Table 5: ImageNet-1K, MobileNet",
}


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of the paper's tables, with counted numbers.

    Attributes:
        preset: The `cbam_keras.presets.Preset` with the printed numbers.
        parameters: Integer, trainable parameters of our network.
        macs: Integer, its multiply-accumulates for one image of 224 x 224.
    """

    preset: Preset
    parameters: int
    macs: int

    @property
    def equal(self) -> bool | None:
        """Whether both equal the printed digits; `None` if none are printed."""
        if self.preset.parameters is None or self.preset.macs is None:
            return None
        return (
            round(self.parameters / 1e6, 2) == self.preset.parameters
            and round(self.macs / 1e9, 3) == self.preset.macs
        )


class PaperTables(tuple[TableRow, ...]):
    """Rows of the tables: a tuple of `TableRow` that prints as tables."""

    def __str__(self) -> str:
        return self._rendered(markdown=False)

    def markdown(self) -> str:
        """Returns the tables in Markdown."""
        return self._rendered(markdown=True)

    def json(self) -> str:
        """Returns the rows as a JSON list with one object per row."""
        return json.dumps(
            [
                {
                    "name": row.preset.name,
                    "tables": row.preset.tables,
                    "network": row.preset.network,
                    "attention": row.preset.attention,
                    "parameters": row.parameters,
                    "printed_parameters_in_millions": row.preset.parameters,
                    "macs": row.macs,
                    "printed_gflops": row.preset.macs,
                    "equal": row.equal,
                    "reported_top1_error": row.preset.top1_error,
                    "reported_top5_error": row.preset.top5_error,
                }
                for row in self
            ],
            indent=1,
        )

    def _rendered(self, markdown):
        tables = []
        for table, title in TITLES.items():
            rows = [row for row in self if table in row.preset.tables]
            if rows:
                cells = [_cells(row, printed=table > 3) for row in rows]
                # Tables without errors have no column of them.
                filled = [x for x in cells[0] if any(c[x] for c in cells)]
                cells = [{x: c[x] for x in filled} for c in cells]
                tables.append(_terminal.Table(title, cells))
        texts = [x.markdown() if markdown else str(x) for x in tables]
        return "\n\n".join([*texts, self._summary()])

    def _summary(self) -> str:
        differ = [row.preset.name for row in self if row.equal is False]
        compared = [row for row in self if row.equal is not None]
        return (
            f"{len(compared) - len(differ)} of {len(compared)} rows with "
            "printed parameters and GMACs are equal to the printed digits"
            + (f"; others: {', '.join(differ)}." if differ else ".")
            + " Errors, top-1 / top-5, are the paper's as reported, not "
            "measured here, where a second copy of the table confirms them. "
            "How the paper joins the two maps in parallel is not in its "
            "released code; here both are multiplied on."
        )


def paper_tables(
    names: Sequence[str] | None = None, *, progress: bool = False
) -> PaperTables:
    """Builds the networks of the paper's tables and profiles them.

    Each network is built by `presets.build_preset` (the authors' variant of
    CBAM, the stride of bottlenecks in the first 1x1 convolution, 1000 classes,
    images of 224 x 224).

    Args:
        names: Sequence of keys of `presets.PRESETS` or `presets.ABLATIONS`.
            Defaults to `None`, which means all rows of Tables 1 to 5.
        progress: Boolean, whether to show a progress bar on stderr if it is
            a terminal. Defaults to `False`.

    Returns:
        A `PaperTables`: a tuple of `TableRow` (`.preset`, `.parameters`,
        `.macs`, `.equal`) that prints as tables and has `.markdown()` and
        `.json()`.

    Raises:
        ValueError: If a preset does not exist.

    Example:
        >>> row, = paper_tables(["resnet18-cbam"])
        >>> row.parameters, row.macs, row.equal
        (11779392, 1815063764, True)

    Reference:
        Woo, Park, Lee and Kweon, 2018, Tables 1 to 5
        (https://arxiv.org/abs/1807.06521).
    """
    known = {**PRESETS, **ABLATIONS}
    names = list(known) if names is None else list(names)
    for name in names:
        _checks.one_of("names", name, known)
    items: Iterable[str] = names
    if progress and sys.stderr.isatty():
        items = _terminal.watched(names, len(names), "building the networks")
    profiles = {x: profiling.profile_model(build_preset(x)) for x in items}
    return PaperTables(
        TableRow(known[name], profile.parameters, profile.macs)
        for name, profile in profiles.items()
    )


def _cells(row: TableRow, printed: bool) -> dict[str, str]:
    preset = row.preset
    errors = [preset.top1_error, preset.top5_error]
    shown = ["-" if error is None else f"{error:.2f}" for error in errors]
    return {
        "network": preset.network,
        "attention": preset.attention or "none",
        "parameters (M)": f"{row.parameters / 1e6:.2f}",
        "printed": f"{preset.parameters:.2f}" if printed else "",
        "GMACs": f"{row.macs / 1e9:.3f}",
        "printed ": f"{preset.macs:.3f}" if printed else "",
        "reported error (%)": "" if errors[0] is None else " / ".join(shown),
    }
