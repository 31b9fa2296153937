"""The output folder of a run as one HTML page.

- `report`: `write`, which reads a folder and writes its page.
- `sections`: what the page says of each kind of run.
- `explanations`: what the networks look at.
- `page`: what a page holds, and the file that it becomes.
"""

from cbam_keras.report.explanations import MAX_NETWORKS
from cbam_keras.report.report import write

__all__ = ["write"]
