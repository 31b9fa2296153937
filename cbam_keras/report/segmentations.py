"""What networks predict for masks, drawn for the report of a run."""

import pathlib

import numpy as np

from cbam_keras import _files, data, study
from cbam_keras.explain.figures import plot_masks
from cbam_keras.report.explanations import shorten
from cbam_keras.report.networks import Run

# The figure of predictions, and of how many networks and images.
PREDICTIONS = "predictions.png"
MAX_NETWORKS, IMAGES = 3, 6
# Images per step of a prediction.
BATCH = 8


def draw_predictions(run: Run, count: int = IMAGES) -> pathlib.Path:
    """Draws test images of a run with their masks and predictions.

    They are chosen at even steps from the one with most wrong pixels to the
    one with fewest. Returns the folder of the figures.
    """
    shape = run.images["image_shape"]
    channels_first = shape[0] in (1, 3) and shape[-1] not in (1, 3)
    size = tuple(shape[1:] if channels_first else shape[:2])
    dataset = run.split()
    files_of_test = dataset.splits["test"].images
    examples = data.read_all(
        dataset.splits["test"], size, dataset.channels, "Preparing test"
    )
    images, masks = examples.images, np.asarray(examples.masks)
    predictions = {
        path.stem: _predict(_files.load_model(path), images, channels_first)
        for path in run.files[:MAX_NETWORKS]
    }
    ignore_index = run.content["source"]["masks"]["ignore_index"]
    is_known = masks != ignore_index
    wrong = [
        ((x != masks) & is_known).mean(axis=(1, 2))
        for x in predictions.values()
    ]
    order = np.argsort(-np.sum(wrong, axis=0), kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order)))
    rows = order[places.round().astype(int)]
    folder = _files.output_folder(run.folder / study.EXPLANATIONS)
    figure = plot_masks(
        images[rows],
        masks[rows],
        {name: x[rows] for name, x in predictions.items()},
        dataset.class_names,
        ignore_index=ignore_index,
        labels=[shorten(str(files_of_test[row])) for row in rows],
    )
    with _files.locked(folder / _files.LOCK):
        _files.write_figure(folder / PREDICTIONS, figure)
    return folder


def _predict(model, images, channels_first):
    """Returns the class of each pixel of images `(N, H, W, C)`."""
    predict, parts = study.make_predictor(model), []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH].astype("float32")
        batch = np.moveaxis(batch, -1, 1) if channels_first else batch
        parts.append(predict(batch))
    return np.concatenate(parts)
