"""Attention in source, without a model, weights or data.

- `files`: `check_source`, and `check_paths` for several, which walk folders.
- `process`: the process in which files are checked, one after the other.
- `sandbox`: what that process may not do.
- `reader`: `check_text`, the rows of one text.
- `definitions`: a text of which imports and definitions are executed.
- `calls`: how these are called, with features and usual arguments.
- `keras_2`: what source for Keras 2 needs.
"""

from cbam_keras.recognition.source.files import check_paths, check_source

__all__ = ["check_source", "check_paths"]
