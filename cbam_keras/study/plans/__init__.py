"""What is trained: studies, their tasks and recipes.

- `study`: `Study`, `Variant`, `Run`, `Task`.
- `tasks`, `segmentation`: `Classification`, and `Segmentation` by masks.
- `recipes`: how networks are trained.
- `measures`: `Measure`, and those of classifiers other than accuracy.
- `stages`: which layers are trained in the stages of fine-tuning.
"""
