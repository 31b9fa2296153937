"""Some test images of a run, and what its networks see in them, as figures."""

import functools
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from cbam_keras import _checks, _files, _graph, _terminal, data, explain
from cbam_keras._files import Json
from cbam_keras.explain import figures
from cbam_keras.layers import AttentionLayer
from cbam_keras.report.page import MAX_NETWORKS
from cbam_keras.study.files.folder import EXPLANATIONS, read_content
from cbam_keras.study.plans.segmentation import make_predictor
from cbam_keras.study.results.results import read_results

# Files in the folder of these figures.
HEAT, MORE_HEAT = "grad_cam.png", "grad_cam-2.png"
MASKS_FIGURE, ANSWERS = "predictions.png", "images.json"
# Networks are asked about so many images, and these are drawn.
ASKED, DRAWN = 64, 8
# A page shows two figures of so many beside each other.
DRAWN_TOGETHER = 4
# Fewer are drawn with the attention of every layer, and with masks.
WITH_ATTENTION, WITH_MASKS, NETWORKS_WITH_MASKS = 4, 6, 3
# Images per step of a prediction.
BATCH = 32
# Marks a prediction that is wrong.
WRONG_MARK = " \N{MULTIPLICATION SIGN}"


def draw_explanations(
    folder: pathlib.Path, content: Json, *, as_pdf: bool = False
) -> None:
    """Draws what the networks of a run look at, or raises if it cannot."""
    results = read_results(folder, content)
    is_shown = results.are_classifiers or _has_masks(content)
    # Predictions that were given have neither networks nor a recipe.
    if not is_shown or not content["settings"]["recipe"]:
        return
    named = {x: folder / file for x, file in results.networks().items()}
    files = {name: file for name, file in named.items() if file.exists()}
    if not files:
        raise ValueError("no network is finished yet")
    described = _describe_images(results, content)
    dataset = _split(content, described)
    figures_of = _draw_masks if _has_masks(content) else _draw_heat
    write = functools.partial(_files.write_figure, as_pdf=as_pdf)
    figures_of(folder / EXPLANATIONS, files, dataset, content, described, write)


def _has_masks(content):
    return bool((content["source"] or {}).get("masks"))


def _describe_images(results, content):
    """Returns what is known of the images that the networks were tested on."""
    first, descriptions = results.first_run, results.settings["data"]
    images = descriptions.get(first.name, next(iter(descriptions.values())))
    images = {"seed": first.seed, **images}
    if results.folds is not None:
        # The best network of a search may be of a new seed.
        best = content.get("best_network", {})
        images["seed"] = best.get("seed", first.seed)
        images["fold"] = best.get("fold", first.fold)
    return images


def _split(content, described):
    """Returns the images as they were split, unless they have changed."""
    if content["source"] is None:
        raise ValueError(
            "the data of the run are arrays or data frames, not files"
        )
    source = data.Source.from_description(content["source"])
    folds = described.get("folds"), described.get("fold", 0)
    dataset = source.split(described["seed"], *folds)
    if described.get("fingerprint") not in (None, dataset.fingerprint):
        raise ValueError(
            f'the data in "{source.data}" have changed since the run'
        )
    if described.get("copies") != dataset.copies:
        raise ValueError(
            "the run was made by another version of cbam_keras, which splits "
            f'copies of images in "{source.data}" in another way'
        )
    return dataset


def _draw_heat(folder, files, dataset, content, described, write):
    """Draws the heat and the attention of networks, for mistakes first."""
    names, pixels, labels = _read_images(dataset, described)
    chosen = itertools.islice(files.items(), MAX_NETWORKS)
    networks = {name: _load(path) for name, path in chosen}
    probabilities = {
        name: explain.class_probabilities(model, pixels, batch_size=BATCH)
        for name, model in _show(networks, "Predicting")
    }
    wrong = sum(x.argmax(axis=1) != labels for x in probabilities.values())
    order = np.argsort(-wrong, kind="stable")
    right = min(DRAWN // 4, max(len(order) - DRAWN, 0))
    rows = np.concatenate([order[: DRAWN - right], order[len(order) - right :]])
    names = [names[row] for row in rows]
    pixels, labels = pixels[rows], labels[rows]
    probabilities = {name: x[rows] for name, x in probabilities.items()}
    class_names = content["class_names"]
    classes = [class_names[label] for label in labels]
    # The heat is of the true class, as in the paper.
    heat = {
        name: explain.grad_cam(model, pixels, [*labels], batch_size=BATCH)
        for name, model in _show(networks, "Explaining")
    }
    _files.output_folder(folder)
    truths = [f"true: {name}" for name in classes]
    predicted = {
        name: [
            f"predicted: {answer}"
            for answer in _name_answers(x, labels, class_names)
        ]
        for name, x in probabilities.items()
    }
    chances = {
        name: [f"P(true) = {x:.2f}" for x in values[range(len(labels)), labels]]
        for name, values in probabilities.items()
    }
    with _files.locked(folder / _files.LOCK):
        _files.delete_unfinished(folder, "*")
        below = {name: _join(predicted[name], chances[name]) for name in heat}
        for place, file in enumerate((HEAT, MORE_HEAT)):
            part = slice(place * DRAWN_TOGETHER, (place + 1) * DRAWN_TOGETHER)
            if not len(pixels[part]):
                continue
            figure = figures.plot_grad_cam(
                pixels[part],
                {name: maps[part] for name, maps in heat.items()},
                classes={name: texts[part] for name, texts in below.items()},
                labels=truths[part],
                title="Grad-CAM",
            )
            write(folder / file, figure)
        for name, model in networks.items():
            texts = _join(truths, predicted[name])
            if figure := _plot_attention(name, model, pixels, texts):
                write(folder / f"attention-{name}.png", figure)
        named = {dataset.noun: names, "true class": classes}
        answers = _list_answers(named, labels, probabilities, class_names)
        _files.write_json(folder / ANSWERS, answers)


def _show(networks, title):
    return _terminal.show_progress(networks.items(), len(networks), title)


def _read_images(dataset, described):
    """Returns names, pixels and labels of test images, or of signals."""
    shape = described.get("input_shape", ())
    are_signals = dataset.kind == "signals"
    if not are_signals and (len(shape) != 3 or shape[2] not in (1, 3)):
        raise ValueError(
            "it needs images (H, W, C) with one or three channels, or signals; "
            f"the {data.kind_of(shape)} have shape {(*shape,)}. In Python, "
            "explain.grad_cam takes others, too"
        )
    examples, size = dataset.splits["test"], (*shape[:2],)
    rng = np.random.default_rng([described["seed"], 2])
    rows = rng.permutation(len(examples))[:ASKED]
    examples = examples.take(rows)
    paths = rows if examples.paths is None else examples.paths
    names = [
        shorten(path) if isinstance(path, str) else f"test {row}"
        for path, row in zip(paths, rows, strict=True)
    ]
    if are_signals:
        return names, np.asarray(examples.images), examples.labels
    pixels = [
        data.read_example(examples, row, size, channels=shape[2])[0]
        for row in range(len(rows))
    ]
    return names, np.stack(pixels), examples.labels


def _plot_attention(name, model, pixels, texts):
    """Returns the attention maps of a model that has some as a figure."""
    layers = _graph.layers_within(model)
    if not any(isinstance(layer, AttentionLayer) for layer in layers):
        return None
    few = slice(WITH_ATTENTION)
    return figures.plot_attention_maps(
        pixels[few],
        explain.attention_maps(model, pixels[few]),
        labels=texts[few],
        title=f"Attention of {name}",
    )


def _list_answers(
    named: Mapping[str, Sequence[str]],
    labels: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> list[dict[str, str]]:
    """Returns a row for each image: what it is, and what networks answer."""
    rows = []
    for number, label in enumerate(labels):
        row = {column: texts[number] for column, texts in named.items()}
        for name, values in probabilities.items():
            answer = values[number].argmax()
            row[name] = f"{class_names[answer]} ({values[number, answer]:.0%})"
            row[name] += WRONG_MARK if answer != label else ""
        rows.append(row)
    return rows


def _name_answers(probabilities, labels, class_names):
    """Returns the predicted class of each image, with a mark if it is wrong."""
    answers = probabilities.argmax(axis=1)
    return [
        f"{class_names[answer]}{WRONG_MARK if answer != label else ''}"
        for answer, label in zip(answers, labels, strict=True)
    ]


def _join(above, below):
    """Returns pairs of texts as two lines each."""
    return list(map("\n".join, zip(above, below, strict=True)))


def _load(path: pathlib.Path) -> keras.Model:
    """Returns the model of a run on classes in a file."""
    model = _graph.with_graph("model", _files.load_model(path))
    if [tuple(x.shape) for x in model.outputs] == [(None, 1)]:
        # A run trains a single unit for two classes.
        model.loss = "binary_crossentropy"
    return model


def _draw_masks(folder, files, dataset, content, described, write):
    """Draws masks and predictions, from most wrong pixels to fewest."""
    shape = described["input_shape"]
    channels_first = shape[0] in (1, 3) and shape[-1] not in (1, 3)
    size = tuple(shape[1:] if channels_first else shape[:2])
    test = dataset.splits["test"]
    examples = data.read_all(test, size, dataset.channels, "Preparing test")
    images, masks = examples.images, np.asarray(examples.masks)
    inputs = np.moveaxis(images, -1, 1) if channels_first else images
    predictions = {
        name: _predict(_files.load_model(path), inputs)
        for name, path in itertools.islice(files.items(), NETWORKS_WITH_MASKS)
    }
    is_known = masks < len(dataset.class_names)
    wrong = [
        ((x != masks) & is_known).mean(axis=(1, 2))
        for x in predictions.values()
    ]
    order = np.argsort(-np.sum(wrong, axis=0), kind="stable")
    places = np.linspace(0, len(order) - 1, min(WITH_MASKS, len(order)))
    rows = order[places.round().astype(int)]
    figure = figures.plot_masks(
        images[rows],
        masks[rows],
        {name: x[rows] for name, x in predictions.items()},
        dataset.class_names,
        labels=[shorten(str(test.images[row])) for row in rows],
    )
    _files.output_folder(folder)
    with _files.locked(folder / _files.LOCK):
        write(folder / MASKS_FIGURE, figure)


def _predict(model, images):
    """Returns the class of each pixel of images."""
    predict = make_predictor(model)
    starts = range(0, len(images), BATCH)
    parts = [predict(images[x : x + BATCH].astype("float32")) for x in starts]
    return np.concatenate(parts)


def shorten(name: str) -> str:
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.PurePath(name).parts[-2:])


def try_to_draw(folder: pathlib.Path, *, as_pdf: bool) -> None:
    """Draws what networks look at, or warns that it cannot be drawn."""
    try:
        draw_explanations(folder, read_content(folder), as_pdf=as_pdf)
    except _files.InUse:
        # Another process draws the same.
        return
    # A network of the user may be one that cannot be loaded or explained.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        _checks.warn(
            f"The report has no heat maps or masks: {reason}. If a network "
            "has layers of your own, import them in Python, and call "
            "cbam_keras.report.write(folder, draw=True)"
        )
