"""Anybody's CBAM layer, checked against the paper.

- `checking`: `audit`, which runs all checks.
- `results`: what it returns.
- `makers`: copies of the layer, which itself stays as it is.
- `subject`: a copy that is run with chosen weights.
- `inputs`: features that some pools cannot tell apart.
- `gates`: the two gates, distinguished by what they do.
- `channel_gate`, `spatial_gate`, `arrangement`: the formula of the paper.
- `variants`: our variants, given the same weights.
- `arguments`, `contract`: what layers of Keras do.
"""

from cbam_keras.auditing.checking import audit
from cbam_keras.auditing.results import Audit

__all__ = ["Audit", "audit"]
