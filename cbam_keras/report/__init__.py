"""The output folder of a run as one HTML page.

- `report`: `write`, and what the page says of each kind of run.
- `page`: what a page holds, and the file that it becomes.
"""

from cbam_keras.report.report import MAX_NETWORKS, write

__all__ = ["write"]
