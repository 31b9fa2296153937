"""Object detection on networks with attention: `python -m examples.detection`.

Read it in this order:
- `pictures`: `Picture`, an image with its objects, and augmented `Batches`.
- `scenes`: pictures that are embedded.
- `readers`, `layouts`: pictures of folders and of TensorFlow Datasets; the
  files of a folder and its splits.
- `annotations`: what is not perfect is left out and counted.
- `data`: `load`, which makes training and test data of any of these.
- `pyramid`: `feature_pyramid`, a network as a backbone of KerasHub.
- `retinanet`: KerasHub's RetinaNet with workarounds; `load_detector`.
- `detector`: the detector on a network, with anchors for these boxes.
- `task`: `Detection`, a `study.Task`, and `plan`, which makes a study of it.
- `__main__`: the command.
"""

import sys

if sys.argv[:1] != ["-m"]:
    # Registers the classes of saved detectors. For the command, this folder is
    # imported before its `--help`, which must not wait for Keras.
    from examples.detection.pyramid import feature_pyramid
    from examples.detection.retinanet import load_detector

    __all__ = ["feature_pyramid", "load_detector"]
