"""The output folder of a run as one HTML page.

- `report`: `write`, and what the page says of each kind of run.
- `page`: what a page holds, and the file that it becomes.
- `summary`: what methods and checklist say, as plain values.
- `methods`: the methods of a run as sentences.
- `checklist`: what checklists of reviewers ask for, and what answers it.
- `classes`: scores of each class, networks side by side.
- `judged`: what predictions say of classes, curves and calibration.
- `given`: `write_given`, the folder and the page of predictions.
- `looking`: some test images, and what networks see in them, drawn.
"""

import pathlib

from cbam_keras import _checks, _files
from cbam_keras.report.given import write_given
from cbam_keras.report.report import write

__all__ = ["write"]


def __dir__() -> list[str]:
    return __all__


def try_to_write(folder: pathlib.Path, draw: bool = False) -> bool:
    """Writes the report of a folder, or warns that it cannot."""
    try:
        write(folder, draw)
        return True
    # A result that took hours is not lost for the sake of its page.
    except Exception as error:
        if _files.is_unwritable(folder, error):
            # The run says so.
            raise
        reason = f"{type(error).__name__}: {error}"
        _checks.warn(f'"{folder}/report.html" is not written ({reason})')
        return False
