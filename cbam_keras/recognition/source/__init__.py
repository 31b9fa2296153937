"""Attention in source, without a model, weights or data.

- `files`: `check_source`, which has a process read files.
- `reader`: that process, which finds gates and calls them.
- `definitions`: a file of which imports and definitions are executed.
- `keras_2`: what source for Keras 2 needs.
"""

from cbam_keras.recognition.source.files import check_source

__all__ = ["check_source"]
