"""Object detection on networks with attention: `python -m examples.detection`.

Read it in this order:
- `pictures`: `Picture`, an image with its objects, and augmented `Batches`.
- `scenes`, `readers`: pictures that are embedded, and those of folders and of
  TensorFlow Datasets.
- `layouts`, `coco`, `labels`: the files of a folder and its splits; a JSON file
  of a split; XML or text of an image.
- `annotations`: what is not perfect is left out and counted.
- `data`: `load`, which makes training and test data of any of these.
- `detector`: KerasHub's RetinaNet, with anchors for these boxes.
- `task`: `Detection`, a `study.Task`, and `plan`, which makes a study of it.
- `__main__`: the command.
"""
