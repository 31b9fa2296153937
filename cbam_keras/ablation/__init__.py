"""The comparisons of the paper on any data, over seeds.

- `runs`: `run`, which trains the networks of the paper's tables; `estimate`.
- `results`: rows, and tables of them.
- `statistics`: means, deviations and paired differences.
- `folder`: the output folder.
"""

from cbam_keras.ablation.results import AblationResults, AblationRow
from cbam_keras.ablation.runs import ABLATIONS, TABLES, estimate, run

__all__ = ["ABLATIONS", "TABLES", "AblationResults", "AblationRow", "run"]
