"""PyTorch checkpoints in Keras.

- `loading`: `load_torch_weights`.
- `names`: how the authors, torchvision and timm name weights.
- `matching`: which weight belongs to which variable.
- `torch_files`: reading checkpoints without executing them.
- `legacy`: the older format, without PyTorch.
"""

from cbam_keras.convert.loading import Report, load_torch_weights

__all__ = ["load_torch_weights", "Report"]


def __dir__() -> list[str]:
    return __all__
