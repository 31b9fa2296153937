"""The output folder of a run as one HTML page.

- `report`: `write`, and what the page says of each kind of run.
- `page`: what a page holds, and the file that it becomes.
- `explanations`: networks explained on images, drawn and written.
- `segmentations`: masks, and what networks predict for them.
- `networks`, `images`: a run's networks; the images they are shown.
- `plotting`: all figures of the package, by one name.
"""

import pathlib

from cbam_keras import _checks, _files
from cbam_keras.report.explanations import Settings, explain_run
from cbam_keras.report.networks import read_run
from cbam_keras.report.report import MAX_NETWORKS, write
from cbam_keras.report.segmentations import draw_predictions

__all__ = ["write"]


def try_to_write(folder: pathlib.Path) -> bool:
    """Writes the report of a folder, or warns that it cannot."""
    try:
        write(folder)
        return True
    # A result that took hours is not lost for the sake of its page.
    except Exception as error:
        if _files.is_unwritable(folder, error):
            # The run says so.
            raise
        reason = f"{type(error).__name__}: {error}"
        _checks.warn(f'"{folder}/report.html" is not written ({reason})')
        return False
