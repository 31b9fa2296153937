"""The paper's tables as data.

`PRESETS` holds the rows of Tables 4 and 5 by name, `ABLATIONS` those of Tables
1 to 3.

- `rows`: every row by name, and `build_preset`, which builds its network.
"""

from cbam_keras.presets.rows import ABLATIONS, PRESETS, Preset, build_preset

__all__ = [
    "build_preset",
    "PRESETS",
    "ABLATIONS",
    "Preset",
]
