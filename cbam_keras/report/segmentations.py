"""What networks predict for masks, drawn for the report of a run."""

import pathlib

import numpy as np

from cbam_keras import _files, data, study
from cbam_keras.explain.figures import plot_masks
from cbam_keras.report.explanations import shorten
from cbam_keras.report.networks import find_networks, is_run

# The figure of predictions, and of how many networks and images.
PREDICTIONS = "predictions.png"
MAX_NETWORKS, IMAGES = 3, 6
# Images per step of a prediction.
BATCH = 8


def has_masks(folder: pathlib.Path) -> bool:
    """Returns whether a folder is that of a run on masks."""
    if not is_run(folder):
        return False
    # A damaged run is reported elsewhere.
    try:
        source = study.read_content(folder).get("source")
    except study.DAMAGE:
        return False
    return bool(source and source.get("masks"))


def draw_predictions(run: pathlib.Path, count: int = IMAGES) -> pathlib.Path:
    """Draws test images of a run with their masks and predictions.

    They are chosen at even steps from the one with most wrong pixels to the
    one with fewest. Returns the folder of the figures.
    """
    files, found = find_networks(run)
    if found.source is None:
        raise ValueError(
            "A run must say where its images are. Received: "
            f'"{run}", whose images are arrays or data frames. In Python, '
            "cbam_keras.explain.plot_masks draws them"
        )
    content = study.read_content(run)
    shape = next(iter(content["settings"]["data"].values()))["image_shape"]
    channels_first = shape[0] in (1, 3) and shape[-1] not in (1, 3)
    size = tuple(shape[1:] if channels_first else shape[:2])
    dataset = found.source.split(found.seed, found.folds, found.fold)
    files_of_test = dataset.splits["test"].images
    loaded = data.as_batches(found.source, dataset, BATCH, found.seed, size)
    if found.fingerprint not in (None, loaded.fingerprint):
        raise ValueError(
            "The data of a run must be as they were, or its test images may "
            f'be others. Received: "{found.source.data}", which has changed'
        )
    networks = [(x.stem, _files.load_model(x)) for x in files[:MAX_NETWORKS]]
    batches = map(loaded.test.__getitem__, range(len(loaded.test)))
    images, masks = map(np.concatenate, zip(*batches, strict=True))
    stops = range(BATCH, len(images), BATCH)
    predictions = {
        name: np.concatenate(
            [study.predict_classes(model, x) for x in np.split(images, stops)]
        )
        for name, model in networks
    }
    ignore_index = int(loaded.ignore_index or 0)
    is_known = masks != ignore_index
    wrong = [
        ((x != masks) & is_known).mean(axis=(1, 2))
        for x in predictions.values()
    ]
    order = np.argsort(-np.sum(wrong, axis=0), kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order)))
    rows = order[places.round().astype(int)]
    folder = _files.output_folder(run / study.EXPLANATIONS)
    figure = plot_masks(
        np.moveaxis(images, 1, -1)[rows] if channels_first else images[rows],
        masks[rows],
        {name: x[rows] for name, x in predictions.items()},
        loaded.class_names,
        ignore_index=ignore_index,
        labels=[shorten(str(files_of_test[row])) for row in rows],
    )
    with _files.locked(folder / _files.LOCK):
        _files.write_figure(folder / PREDICTIONS, figure)
    return folder
