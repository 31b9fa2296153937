"""What is trained: studies, their tasks and recipes.

- `study`: `Study`, `Variant`, `Run`, `Task`.
- `tasks`, `segmentation`: `Classification`, and `Segmentation` by masks.
- `comparison`, `training`: studies of attention, and of networks of your own.
- `recipes`: how networks are trained.
- `class_weights`: training images weighted by their classes.
- `measures`: `Measure`, and those of classifiers other than accuracy.
- `stages`: which layers are trained in the stages of fine-tuning.
"""
