"""The files of explanations: what is read, drawn and written."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files, plotting, study
from cbam_keras._explanations.examples import Examples, from_data, from_paths
from cbam_keras._explanations.explanation import (
    Explanation,
    Settings,
    explain,
    predict,
)
from cbam_keras._explanations.networks import (
    ENDINGS,
    class_names_beside,
    is_run,
    load_networks,
    networks_of,
)
from cbam_keras.explain import class_probabilities

# Of the images, if neither the networks nor the images have one size.
DEFAULT_SIZE = 224, 224
# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
TITLES = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
}


def explain_files(
    paths: Sequence[pathlib.Path],
    settings: Settings,
    *,
    output: str | pathlib.Path | None = None,
    data_options: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[np.ndarray], Any] | None = None,
    described: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> tuple[Explanation, pathlib.Path]:
    """Explains the predictions of networks in files, and writes the results.

    Args:
        paths: Files of networks, output folders of runs, images, and folders
            of images.
        settings: A `Settings`.
        output: The folder for all files. In the folder of a run it is its
            subfolder `explain`. Defaults to `None`, a folder in `runs`.
        data_options: Options of `data.load` for `settings.data`.
        class_names: Sequence of strings, or `None` if not given.
        preprocess: Function of images in [0, 255], or `None`.
        described: Further settings to write to `explain.json`.
        command: String, the command to write there, or `None`.

    Returns:
        The results, and the folder that they are written to.
    """
    # Before any work, although it is only needed in the end.
    _checks.require("matplotlib.figure", extra="plot")
    files, images, dataset = _sorted_paths(paths, settings.data)
    if dataset is None:
        examples = from_paths(images, settings.count, settings.seed)
    else:
        choice = dataset, settings.split, settings.count, settings.seed
        examples = from_data(*choice, dict(data_options or {}))
    networks = load_networks(
        files, settings.image_size, examples.size or DEFAULT_SIZE, preprocess
    )
    classes = _count_classes(networks, examples, settings)
    class_names = _class_names(class_names, files, examples, classes)
    class_index = _class_index(settings.wanted, class_names, classes)
    if output is None:
        first = next(path for path in paths if path not in images)
        output = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = pathlib.Path(output)
    if is_run(output):
        # A run is overwritten only if all files in its folder are its own.
        output /= study.EXPLANATIONS
    folder = _files.output_folder(output)
    explanation = explain(
        networks, examples, class_names, class_index, settings
    )
    _draw_grad_cam(folder, explanation, settings)
    _draw_attention(folder, explanation)
    used = {
        "data": dataset,
        "split": None if dataset is None else settings.split,
        "count": len(examples),
        **(described or {}),
    }
    _write(folder, explanation, networks, settings, used, command)
    return explanation, folder


def explain_run(
    models: Sequence[pathlib.Path],
    examples: Examples,
    output: pathlib.Path,
    described: Mapping[str, Any],
) -> None:
    """Explains the images that most networks of a run get wrong.

    Writes figures, `explain.json` and `arrays.npz`, for the report of the run.
    `described` are settings to write to `explain.json`. The true classes of
    the images must be known.
    """
    settings = Settings()
    networks = load_networks(models, None, examples.size or DEFAULT_SIZE)
    labels = examples.labels(None)
    mistakes = np.zeros(len(examples), int)
    for batch in examples.batches(settings.batch_size, networks[0].size):
        for network in networks:
            inputs = network.prepare(batch.images(network.size))
            probabilities = class_probabilities(network.model, inputs)
            wrong = probabilities.argmax(axis=1) != labels[batch.part]
            mistakes[batch.part] += wrong
    worst = np.argsort(-mistakes, kind="stable")[: settings.draw]
    explanation = explain(
        networks, examples.take(worst), examples.class_names, None, settings
    )
    folder = _files.output_folder(output)
    _draw_grad_cam(folder, explanation, settings)
    _draw_attention(folder, explanation)
    _write(folder, explanation, networks, settings, described)


def _sorted_paths(paths, dataset):
    """Returns the networks and the images among paths, and the dataset."""
    networks: list[pathlib.Path] = []
    images, datasets = [], set()
    for path in paths:
        if not path.exists():
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )
        if is_run(path):
            files, name = networks_of(path)
            networks += files
            datasets.add(name)
        elif path.suffix.lower() in ENDINGS:
            networks.append(path)
        else:
            images.append(path)
    if not networks:
        raise ValueError(
            "There must be at least one model, a file that ends in .keras or "
            ".h5, or the output folder of a run. Received: "
            f"{_checks.first_few(images) or 'none'}"
        )
    if images and dataset is not None:
        raise ValueError(
            "Images come from --data or from files, not both. Received: "
            f"--data and {_checks.first_few(images)}"
        )
    if not images and dataset is None:
        if len(datasets) != 1 or None in datasets:
            raise ValueError(
                "There must be images to explain: files, a folder, or --data "
                "NAME, e.g. --data cluttered_mnist. Received: none"
            )
        (dataset,) = datasets
    return networks, images, dataset


def _count_classes(networks, examples, settings):
    """Returns how many classes all networks have, after a first image."""
    first = next(examples.batches(1, networks[0].size))
    classes = {}
    for network in networks:
        inputs = network.prepare(first.images(network.size))
        try:
            probabilities, *_ = predict(
                network, inputs, np.array([-1]), settings
            )
        except (ValueError, TypeError) as error:
            if len(networks) > 1:
                error.args = (f"{error} (model {network.path})",)
            raise
        classes[network.name] = probabilities.shape[1]
    if len(set(classes.values())) > 1:
        raise ValueError(
            "Models must have the same classes to be compared. Received: "
            + ", ".join(f'"{name}" with {n}' for name, n in classes.items())
        )
    count = classes[networks[0].name]
    names = examples.class_names
    if names is not None and len(names) != count:
        raise ValueError(
            "Models must have the classes of the data. Received: models of "
            f"{count} classes, data of {len(names)}. Give other data, or the "
            "images as files"
        )
    return count


def _class_names(names, files, examples, classes):
    """Returns the class names from the best source, or `None`."""
    if names is not None and len(names) != classes:
        raise ValueError(
            "`class_names` must be a file with one name per line for each "
            f"class. Received: {len(names)} names, models of {classes} classes"
        )
    # Folders are classes only if there is one for each class.
    folders = examples.folders if len(examples.folders) == classes > 1 else None
    return (
        names
        or examples.class_names
        or class_names_beside(files, classes)
        or folders
    )


def _class_index(wanted, class_names, classes):
    """Returns the index of the class to explain, or `None` if not given."""
    if wanted is None:
        return None
    if class_names and wanted in class_names:
        return list(class_names).index(wanted)
    if wanted.isdecimal() and int(wanted) < classes:
        return int(wanted)
    hint = ". Their names are not known: give --class-names FILE"
    if class_names:
        listed = f". The classes are {_checks.first_few(class_names, 10)}"
        hint = _checks.did_you_mean(wanted, class_names, 3) or listed
    raise ValueError(
        "`class` must be the name of a class or an index from 0 to "
        f"{classes - 1}. Received: class={wanted!r}{hint}"
    )


def _draw_grad_cam(folder, explanation, settings):
    arrays = explanation.arrays
    rows = explanation.content["images"]
    names = list(explanation.content["summary"])
    classes = None
    if settings.wanted is not None:
        explained = f'"{rows[0]["models"][names[0]]["class"]}"'
    elif any(row["true_class"] for row in rows):
        explained = "the true class"
    else:
        explained = "the predicted class"
        # Each network may explain another class.
        classes = {
            name: [
                row["models"][name]["class"] for row in rows[: settings.draw]
            ]
            for name in names
        }
    figure = plotting.plot_grad_cam(
        arrays["images"],
        {name: arrays[f"{name}/heat_maps"] for name in names},
        probabilities={name: arrays[f"{name}/probability"] for name in names},
        classes=classes,
        labels=explanation.captions(),
        boxes=arrays.get("boxes"),
        title=f"{TITLES[settings.method]} of {explained}",
    )
    _save(figure, folder / "grad_cam.png")


def _draw_attention(folder, explanation):
    few = slice(ATTENTION_DRAWN)
    for name in explanation.content["summary"]:
        prefix = f"{name}/attention/"
        gates = {
            key.removeprefix(prefix): array[few]
            for key, array in explanation.arrays.items()
            if key.startswith(prefix)
        }
        layers = dict.fromkeys(gate.rpartition("/")[0] for gate in gates)
        if not layers:
            continue
        figure = plotting.plot_attention_maps(
            explanation.arrays["images"][few],
            {
                layer: (
                    gates.get(f"{layer}/channel"),
                    gates.get(f"{layer}/spatial"),
                )
                for layer in layers
            },
            labels=explanation.captions()[few],
            title=f"Attention of {name}",
        )
        _save(figure, folder / f"attention-{name.replace('/', '-')}.png")


def _save(figure, file):
    with _files.replacing(file) as path:
        figure.savefig(path, dpi=150)


def _write(folder, explanation, networks, settings, described, command=None):
    """Writes the arrays, and everything else as JSON."""
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **explanation.arrays)
    _files.write_json(
        folder / "explain.json",
        {
            "settings": {**dataclasses.asdict(settings), **described},
            "versions": study.versions(),
            **({} if command is None else {"command": command}),
            "models": {x.name: str(x.path) for x in networks},
            **explanation.content,
        },
    )
