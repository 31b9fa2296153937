"""The output folder of a run as one HTML page.

- `writing`: `write`, which reads a folder and writes its page.
- `page`: what a page holds, and the file that it becomes.
- `trained`, `searched`, `ablated`, `detected`, `explained`: what a folder of
  `train`, `tune`, `ablate`, `detect` and `explain` says.
- `looks`: where networks look, image by image.
- `findings`: what detectors find, image by image.
- `pictures`: pictures within the page.
"""

from cbam_keras.report.writing import FILE, write

__all__ = ["write"]
