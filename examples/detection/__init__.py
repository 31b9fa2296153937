"""Object detection on networks with attention: `python -m examples.detection`.

Read it in this order:
- `pictures`: images with objects, and augmented batches of them.
- `folders`, `scenes`: COCO's and Pascal VOC's folders, the embedded scenes.
- `loading`: `load`, which reads these and TensorFlow Datasets.
- `anchors`, `detector`: KerasHub's RetinaNet for these boxes.
- `precision`: mean average precision, by pycocotools.
- `task`: `Detection`, a `study.Task`, and `plan`, which makes a study of it.
- `__main__`: the command.

YOLO's layout of folders is not read yet.
"""
