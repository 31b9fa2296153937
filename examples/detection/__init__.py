"""Object detection on networks with attention: `python -m examples.detection`.

Read it in this order:
- `pictures`: `Picture`, an image with its objects, and augmented `Batches`.
- `scenes`: pictures that are embedded.
- `readers`, `layouts`: pictures of folders and of TensorFlow Datasets; the
  files of a folder and its splits.
- `annotations`: what is not perfect is left out and counted.
- `data`: `load`, which makes training and test data of any of these.
- `detector`: KerasHub's RetinaNet, with anchors for these boxes.
- `task`: `Detection`, a `study.Task`, and `plan`, which makes a study of it.
- `__main__`: the command.
"""
