"""What do the networks of the paper's Tables 4 and 5 count?

    python -m benchmarks.paper

Builds each network, and writes its parameters and multiply-accumulates, beside
those that the paper reports, into `benchmarks/paper.md`.
"""

import pathlib
import re

from benchmarks import results
from cbam_keras import _terminal, presets, profile_model

PAGE = pathlib.Path(__file__).with_name("paper.md")
MARKED = re.compile(
    r"(<!-- python -m benchmarks.paper -->\n).*?(<!-- end -->)", re.S
)
TITLES = {4: "ImageNet-1K", 5: "ImageNet-1K, MobileNet"}


def count(name):
    """Returns the parameters in millions, and multiply-accumulates in 1e9."""
    profile = profile_model(presets.build_preset(name))
    return round(profile.parameters / 1e6, 2), round(profile.macs / 1e9, 3)


def tables(counts):
    """Returns Tables 4 and 5 in Markdown, with what each network counts."""
    texts = []
    for number, title in TITLES.items():
        cells = [
            _cells(row, *counts[name])
            for name, row in presets.PRESETS.items()
            if (row.builder == "MobileNet") is (number == 5)
        ]
        # A table without errors has no column of them.
        filled = [name for name in cells[0] if any(x[name] for x in cells)]
        cells = [{name: x[name] for name in filled} for x in cells]
        texts.append(f"**Table {number}: {title}**\n\n{results.table(cells)}")
    equal = sum(
        counts[name] == (row.parameters, row.macs)
        for name, row in presets.PRESETS.items()
    )
    texts.append(
        f"{equal} of {len(presets.PRESETS)} rows match the parameters and "
        "GMACs that the paper reports. Errors (top-1 / top-5, %) are the "
        "paper's; none was measured here. A cell is empty where a number could "
        "not be checked against a second source."
    )
    return "\n\n".join(texts)


def page(text, counts):
    """Returns the text of the page with these counts."""
    return MARKED.sub(lambda x: f"{x[1]}\n{tables(counts)}\n\n{x[2]}", text)


def _cells(row, parameters, macs):
    errors = row.top1_error, row.top5_error
    shown = ["-" if error is None else f"{error:.2f}" for error in errors]
    return {
        "network": row.network,
        "attention": row.attention or "none",
        "parameters (M)": f"{parameters:.2f}",
        "reported": f"{row.parameters:.2f}",
        "GMACs": f"{macs:.3f}",
        # Two columns need two names.
        "reported ": f"{row.macs:.3f}",
        "reported error (%)": "" if errors[0] is None else " / ".join(shown),
    }


def main():
    counts = {}
    for name in _terminal.show_progress(
        presets.PRESETS, len(presets.PRESETS), "Building the networks"
    ):
        counts[name] = count(name)
    PAGE.write_text(page(PAGE.read_text("utf-8"), counts), "utf-8")
    print(tables(counts))


if __name__ == "__main__":
    main()
