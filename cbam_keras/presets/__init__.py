"""The paper's tables as data.

`PRESETS` holds the rows of Tables 4 and 5 by name, `ABLATIONS` those of Tables
1 to 3.

- `paper`: titles, rows and networks, and what these count.
"""

from cbam_keras.presets.paper import (
    ABLATIONS,
    COMPARED,
    COMPARISONS,
    PRESETS,
    TITLES,
    Preset,
    build_preset,
    compare_counts,
    count_rows,
)

__all__ = [
    "build_preset",
    "PRESETS",
    "ABLATIONS",
    "Preset",
]
