"""The subcommand `table`: the paper's tables with what our networks count."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from _cbam_keras_command.parser import Options
from cbam_keras import _files, _terminal
from cbam_keras.models import paper


def table(options: Options) -> None:
    if options.output is not None:
        # A folder that cannot be written to is an error before any work.
        folder = _files.output_folder(pathlib.Path(options.output))
    rows = paper.count_rows(options.names)
    texts = {
        "md": render(rows, markdown=True),
        "json": json.dumps(rows, indent=1),
    }
    if options.output is not None:
        for ending, text in texts.items():
            with _files.replacing(folder / f"tables.{ending}") as path:
                path.write_text(text + "\n", encoding="utf-8")
    if options.json or options.markdown:
        _terminal.say(texts["json" if options.json else "md"])
    else:
        _terminal.say(render(rows))


def render(rows: Sequence[Mapping], *, markdown: bool = False) -> str:
    """Returns the tables of the rows, and how many equal the paper's."""
    texts = []
    for number, title in paper.TITLES.items():
        cells = [
            _cells(row, reported=number > 3)
            for row in rows
            if number in row["tables"]
        ]
        if cells:
            # Tables without errors have no column of them.
            filled = [name for name in cells[0] if any(x[name] for x in cells)]
            cells = [{name: x[name] for name in filled} for x in cells]
            shown = _terminal.Table(f"Table {number}: {title}", cells)
            texts.append(shown.markdown() if markdown else str(shown))
    summary = (
        f"{_agreement(rows)}Errors (top-1 / top-5, %) are the paper's; none "
        "was measured here. A cell is empty where a number could not be "
        "checked against a second source."
    )
    if any(row["tables"] and "parallel" in row["name"] for row in rows):
        summary += (
            " The authors' code does not include the parallel variant; here "
            "the input is multiplied by both maps."
        )
    return "\n\n".join([*texts, summary])


def _agreement(rows):
    compared = [row for row in rows if row["equal"] is not None]
    if not compared:
        return ""
    differ = [row["name"] for row in compared if not row["equal"]]
    equal = len(compared) - len(differ)
    matching = (
        f"{equal} of {len(compared)} rows match"
        if differ or equal == 1
        else f"All {equal} rows match"
    )
    others = f"; others: {', '.join(differ)}" if differ else ""
    return (
        f"{matching} the parameters and GMACs that the paper reports{others}. "
    )


def _cells(row, reported):
    errors = [row["reported_top1_error"], row["reported_top5_error"]]
    shown = ["-" if error is None else f"{error:.2f}" for error in errors]
    parameters = row["printed_parameters_in_millions"]
    return {
        "network": row["network"],
        "attention": row["attention"] or "none",
        "parameters (M)": f"{row['parameters'] / 1e6:.2f}",
        "reported": f"{parameters:.2f}" if reported else "",
        "GMACs": f"{row['macs'] / 1e9:.3f}",
        "reported ": f"{row['printed_gflops']:.3f}" if reported else "",
        "reported error (%)": "" if errors[0] is None else " / ".join(shown),
    }
