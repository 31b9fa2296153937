"""Anybody's CBAM layer, checked against the paper.

- `verdict`: `audit`, which runs all checks.
- `results`: what it returns.
- `layer_under_test`: copies of the layer, run with weights of our choice.
- `gates`: its two gates: their kernels, activations and pools.
- `formula`: whether the layer computes the formula of the paper.
- `contract`: whether it does what Keras expects of a layer.
"""

from cbam_keras.auditing.results import Audit
from cbam_keras.auditing.verdict import audit

__all__ = ["Audit", "audit"]
