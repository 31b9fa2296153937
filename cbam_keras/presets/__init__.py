"""The paper's tables as data, and counted.

- `rows`: every row by name, and `build_preset`, which builds its network.
- `reproduction`: the tables with what our networks count.
"""

from cbam_keras.presets.reproduction import paper_tables
from cbam_keras.presets.rows import (
    ABLATIONS,
    PRESETS,
    Preset,
    build_preset,
)

__all__ = ["ABLATIONS", "PRESETS", "Preset", "build_preset"]
