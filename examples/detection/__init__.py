"""Object detection on networks with attention: `python -m examples.detection`.

Read it in this order:
- `pictures`: images with objects, and augmented batches of them.
- `folders`, `scenes`: COCO's and Pascal VOC's folders, the embedded scenes.
- `loading`: `load`, which reads these and TensorFlow Datasets.
- `detector`: KerasHub's RetinaNet, with anchors for these boxes.
- `task`: `Detection`, a `study.Task`, `plan`, which makes a study of it, and
  mean average precision by pycocotools.
- `__main__`: the command.

YOLO's layout of folders is not read yet.
"""
