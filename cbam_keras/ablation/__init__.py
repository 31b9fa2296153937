"""The paper's comparisons on your own data, over several seeds.

- `run`: `run`, and the networks of the paper's tables.
- `results`: rows, and tables of them in several formats.
"""

from cbam_keras.ablation.results import AblationResults, AblationRow
from cbam_keras.ablation.run import (
    ABLATIONS,
    TABLES,
    estimate,
    results_of,
    run,
)

__all__ = ["ABLATIONS", "TABLES", "AblationResults", "AblationRow", "run"]
