"""A network without attention, with SE and with CBAM, compared.

- `comparing`: `compare`, which trains them under equal conditions.
- `plan`: its arguments checked, and its defaults.
- `results`: `Comparison`: rows, a verdict, a table.
"""

from cbam_keras.comparison.comparing import compare, estimate
from cbam_keras.comparison.plan import (
    attention_layers,
    default_recipe,
    model_options,
    start_options,
)
from cbam_keras.comparison.results import Comparison, verdict
from cbam_keras.models import NETWORKS

__all__ = ["NETWORKS", "Comparison", "compare"]
