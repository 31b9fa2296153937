"""Predictions of networks in files: explained, drawn and written."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files, _terminal, plotting, study
from cbam_keras._explanations.images import Images, from_data, from_paths
from cbam_keras._explanations.networks import (
    ENDINGS,
    class_names_beside,
    load_networks,
    networks_of,
    read_run,
)
from cbam_keras.explain import (
    attention_maps,
    class_probabilities,
    grad_cam,
    pointing_game,
)

# Of the images, if neither the networks nor the images have one size.
DEFAULT_SIZE = 224, 224
# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
TITLES = {
    "grad_cam": "Grad-CAM",
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
}
# What is stored of each prediction, as far as it is known.
PREDICTION = (
    *("explained", "probability", "predicted", "predicted_probability"),
    *("hit", "energy"),
)
# Titles of the columns of means.
MEANS = {
    "accuracy": "accuracy",
    "hit_rate": "maximum in the box",
    "energy": "heat in the box",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of `cbam-keras explain`, see its `--help`."""

    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    head: int | str | None = None
    image_size: int | None = None
    draw: int = 8
    batch_size: int = 32
    data: str | None = None
    split: str = "test"
    count: int | None = 8
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "draw", "image_size", "count"):
            if getattr(self, name) is not None:
                _checks.positive_integer(name, getattr(self, name))
        if self.seed is not None:
            _checks.seed("seed", self.seed)
        if self.draw > plotting.MAX_ROWS:
            raise ValueError(
                f"`draw` must be at most {plotting.MAX_ROWS}, or the figure "
                f"cannot be read. Received: draw={self.draw}"
            )


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
) -> tuple[str, pathlib.Path]:
    """Explains predictions, and writes and draws them into a folder.

    `paths` are networks, output folders of runs, images, and folders of
    images; `described` are further settings to write. Returns tables, and the
    folder.
    """
    # Before any work, although it is only needed in the end.
    _checks.require("matplotlib.figure", extra="plot")
    files, image_paths, source = _sorted_paths(paths, settings.data)
    dataset, seed = source.pop("name"), source.pop("seed")
    if settings.seed is not None:
        seed = settings.seed
    if dataset is None:
        images = from_paths(image_paths, settings.count, seed)
    else:
        choice = dataset, settings.split, settings.count, seed
        fingerprint = source.pop("fingerprint", None)
        options = {**source, **(data_options or {})}
        images = from_data(*choice, options, fingerprint)
    networks = load_networks(
        files, settings.image_size, images.size or DEFAULT_SIZE, preprocess
    )
    probabilities = _probabilities(networks, images, settings)
    classes = _count_classes(probabilities, images, class_names)
    class_names = class_names or class_names_beside(files, classes)
    class_names, images = _in_one_order(class_names, images, classes)
    class_index = _class_index(settings.wanted, class_names, classes)

    if output is None:
        first = next(path for path in paths if path not in image_paths)
        output = pathlib.Path("runs") / f"explain-{first.absolute().stem}"
    output = pathlib.Path(output)
    if read_run(output):
        # A run is overwritten only if all files in its folder are its own.
        output /= study.EXPLANATIONS
    if output.exists():
        # Other folders are made when all else is right.
        _files.output_folder(output)
    content, arrays = _explained(
        networks, images, probabilities, class_names, class_index, settings
    )
    folder = _files.output_folder(output)
    used = {
        "data": dataset,
        "split": None if dataset is None else settings.split,
        "count": len(images),
        "seed": seed,
        **(described or {}),
    }
    with _files.locked(folder / _files.LOCK):
        _draw(folder, content, arrays, settings)
        _write(folder, content, arrays, networks, settings, used, command)
    return _tables(content, len(arrays["images"])), folder


def explain_run(
    models: Sequence[pathlib.Path],
    images: Images,
    output: pathlib.Path,
    described: Mapping[str, Any],
) -> None:
    """Explains the images that most networks of a run get wrong.

    Writes what the report of the run shows. The true classes of the images
    must be known.
    """
    settings = Settings()
    networks = load_networks(models, None, images.size or DEFAULT_SIZE)
    probabilities = _probabilities(networks, images, settings)
    labels = images.labels(images.class_names)
    mistakes = sum(x.argmax(axis=1) != labels for x in probabilities.values())
    worst = np.argsort(-mistakes, kind="stable")[: settings.draw]
    probabilities = {name: x[worst] for name, x in probabilities.items()}
    images = images.take(worst)
    content, arrays = _explained(
        networks, images, probabilities, images.class_names, None, settings
    )
    folder = _files.output_folder(output)
    _draw(folder, content, arrays, settings)
    _write(folder, content, arrays, networks, settings, described)


def _sorted_paths(paths, dataset):
    """Returns the networks and images among paths, and options of data."""
    networks: list[pathlib.Path] = []
    images, sources = [], []
    for path in paths:
        if not path.exists():
            raise ValueError(
                "Models, images and folders must exist. Received: "
                f'"{path}", which does not'
            )
        if read_run(path):
            files, source = networks_of(path)
            networks += files
            sources.append(source)
        elif (path / study.RESULTS).exists() and any(path.glob("*.keras")):
            # Raises an error that names what is damaged.
            study.Results.read(path)
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
    if images or dataset is not None:
        seed = sources[0]["seed"] if sources else 0
        return networks, images, {"name": dataset, "seed": seed}
    names = {source.get("name") for source in sources}
    if len(names) != 1 or None in names:
        raise ValueError(
            "There must be images to explain: files, a folder, or --data "
            "NAME, e.g. --data cluttered_mnist. Received: "
            + (
                "runs that do not say where one dataset is"
                if sources
                else "none"
            )
        )
    return networks, images, sources[0]


def _probabilities(networks, images, settings):
    """Returns the class probabilities of all networks, by their names."""
    parts = collections.defaultdict(list)
    for _, resized in images.batches(settings.batch_size, networks[0].size):
        for network in networks:
            probabilities = class_probabilities(
                network.model,
                network.prepare(resized(network.size)[0]),
                head=settings.head,
                batch_size=settings.batch_size,
            )
            parts[network.name].append(probabilities)
    return {name: np.concatenate(part) for name, part in parts.items()}


def _count_classes(probabilities, images, class_names):
    """Returns how many classes networks, data and names have."""
    counts = {f'"{name}"': x.shape[1] for name, x in probabilities.items()}
    if images.class_names is not None:
        counts["the data"] = len(images.class_names)
    if class_names is not None:
        counts["--class-names"] = len(class_names)
    classes = set(counts.values())
    if len(classes) > 1:
        raise ValueError(
            "Models, data and the file of --class-names must have the same "
            "classes. Received: "
            + ", ".join(f"{name} with {n}" for name, n in counts.items())
        )
    return classes.pop()


def _in_one_order(class_names, images, classes):
    """Returns the class names of networks, and images whose names agree.

    Names of networks that are not known are taken from the images, and names
    that differ from theirs as others for the same classes.
    """
    of_data = images.class_names
    if class_names is None:
        class_names = of_data
        # Folders are classes only if there is one for each class.
        if len(images.folders) == classes > 1:
            class_names = images.folders
            _checks.warn(
                "It is assumed that class 0 of the models is the first folder "
                "in alphabetical order, and so on: "
                f"{_checks.first_few(class_names)}. If they were trained with "
                "another order, give it with --class-names FILE"
            )
    elif of_data is not None and {*of_data} != {*class_names}:
        _checks.warn(
            f"The classes of the data, {_checks.first_few(of_data)}, are "
            "assumed to be those of the models in the same order: "
            f"{_checks.first_few(class_names)}"
        )
        images = dataclasses.replace(images, class_names=class_names)
    return class_names, images


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


def _explained(
    networks, images, probabilities, class_names, class_index, settings
):
    """Returns what `explain.json` holds of predictions, and arrays.

    The class `class_index` is explained; if it is `None`, the true class
    where it is known, else the predicted one. The first network sets sizes.
    """
    size, draw = networks[0].size, settings.draw
    labels = images.labels(class_names)
    parts = {"names": [np.array(images.names)], "labels": [labels]}
    parts = collections.defaultdict(list, parts)
    for name, values in probabilities.items():
        predicted = values.argmax(axis=1)
        explained = np.where(labels < 0, predicted, labels)
        if class_index is not None:
            explained[:] = class_index
        numbers = np.arange(len(images))
        parts |= {
            f"{name}/explained": [explained],
            f"{name}/probability": [values[numbers, explained]],
            f"{name}/predicted": [predicted],
            f"{name}/predicted_probability": [values[numbers, predicted]],
            f"{name}/probabilities": [values],
        }
    work = (
        (network, *batch)
        for batch in images.batches(settings.batch_size, size)
        for network in networks
    )
    total = -(-len(images) // settings.batch_size) * len(networks)
    for network, part, resized in _terminal.watched(work, total, "Explaining"):
        seen, boxes = resized(network.size)
        inputs = network.prepare(seen)
        try:
            heat = grad_cam(
                network.model,
                inputs,
                parts[f"{network.name}/explained"][0][part],
                settings.layer,
                method=settings.method,
                head=settings.head,
                batch_size=settings.batch_size,
            )
        except (ValueError, TypeError) as error:
            if len(networks) > 1:
                error.args = (f"{error} (model {network.path})",)
            raise
        found = {}
        if boxes is not None:
            found["hit"], found["energy"] = pointing_game(heat, boxes)
            if network is networks[0]:
                parts["boxes"].append(boxes)
        if part.start < draw:
            found["heat_maps"] = _in_size(heat, size)
            if network.has_attention:
                found |= _gates(network, inputs)
            if network is networks[0]:
                parts["images"].append(network.in_its_colors(seen))
        for key, array in found.items():
            parts[f"{network.name}/{key}"].append(array)
    arrays = {key: np.concatenate(part) for key, part in parts.items()}
    content = {
        "class_names": list(class_names) if class_names else None,
        "summary": {x.name: _means(arrays, x.name) for x in networks},
        "images": [
            _row(number, name, arrays, networks, class_names)
            for number, name in enumerate(images.names)
        ],
    }
    if "boxes" in arrays:
        sides = arrays["boxes"][:, 2:] - arrays["boxes"][:, :2]
        fraction = sides.prod(axis=1).mean() / np.prod(size)
        content["box_fraction"] = float(fraction)
    return content, {key: array[:draw] for key, array in arrays.items()}


def _gates(network, inputs):
    """Returns the attention maps of a network, by layer and kind."""
    maps = attention_maps(network.model, inputs)
    return {
        f"attention/{layer}/{gate}": array
        for layer, pair in maps.items()
        for gate, array in zip(("channel", "spatial"), pair, strict=True)
        if array is not None
    }


def _row(number, image, arrays, networks, class_names):
    """Returns what `explain.json` holds of an image."""

    def name_of(index):
        return class_names[index] if class_names else f"class {index}"

    label = arrays["labels"][number]
    row: dict[str, Any] = {
        "image": image,
        "true_class": name_of(label) if label >= 0 else None,
        "models": {},
    }
    for network in networks:
        values = {
            key: arrays[f"{network.name}/{key}"][number].item()
            for key in PREDICTION
            if f"{network.name}/{key}" in arrays
        }
        row["models"][network.name] = {
            "class": name_of(values["explained"]),
            "class_index": values.pop("explained"),
            "predicted_class": name_of(values["predicted"]),
            "predicted_class_index": values.pop("predicted"),
            **values,
        }
    if "boxes" in arrays:
        row["box"] = arrays["boxes"][number].tolist()
    return row


def _means(arrays, name):
    """Returns accuracy, hit rate and energy of a network, where known."""
    labels = arrays["labels"]
    values = {
        "accuracy": (arrays[f"{name}/predicted"] == labels)[labels >= 0],
        "hit_rate": arrays.get(f"{name}/hit", ()),
        "energy": arrays.get(f"{name}/energy", ()),
    }
    return {key: float(np.mean(x)) for key, x in values.items() if len(x)}


def _in_size(maps, size):
    """Returns heat maps `(B, H, W)` in another size."""
    image = _checks.require("PIL.Image", extra="plot")
    shape = size[::-1]
    bilinear = image.Resampling.BILINEAR
    return np.stack([image.fromarray(x).resize(shape, bilinear) for x in maps])


def _tables(content, drawn):
    """Returns the probabilities of the drawn images, and means of all."""
    rows, summary = content["images"], content["summary"]
    labelled = any(row["true_class"] for row in rows)
    title = "Probability of the explained class"
    if len(rows) > drawn:
        title += f", first {drawn} of {len(rows)} images"
    columns = ["image", *["true class"] * labelled, *summary]
    cells = [
        (
            _short(row["image"]),
            *[row["true_class"] or ""] * labelled,
            *map(_cell, row["models"].values()),
        )
        for row in rows[:drawn]
    ]
    columns = dict.fromkeys(columns, "left")
    tables = [_terminal.render(columns, [cells], title=title)]
    means = [key for key in MEANS if key in next(iter(summary.values()))]
    if means:
        cells = [
            (name, *(f"{values[key]:.1%}" for key in means))
            for name, values in summary.items()
        ]
        if "box_fraction" in content:
            chance = f"{content['box_fraction']:.1%}"
            even = (chance if key != "accuracy" else "" for key in means)
            cells.append(("uniform heat", *even))
        columns = {"model": "left"} | {MEANS[key]: "right" for key in means}
        title = f"Means over {len(rows)} images"
        tables.append(_terminal.render(columns, [cells], title=title))
    return "\n\n".join(tables)


def _cell(prediction):
    text = f"{prediction['class']} {prediction['probability']:.1%}"
    if prediction["predicted_class_index"] != prediction["class_index"]:
        text += (
            f" (predicts {prediction['predicted_class']} "
            f"{prediction['predicted_probability']:.1%})"
        )
    return text


def _short(name):
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.Path(name).parts[-2:])


def _draw(folder, content, arrays, settings):
    """Draws the heat maps of all networks, and the attention of each."""
    rows, names = content["images"][: settings.draw], list(content["summary"])
    labels = [row["true_class"] or _short(row["image"]) for row in rows]
    classes = None
    if settings.wanted is not None:
        explained = f'"{rows[0]["models"][names[0]]["class"]}"'
    elif any(row["true_class"] for row in content["images"]):
        explained = "the true class"
    else:
        explained = "the predicted class"
        # Each network may explain another class.
        classes = {
            name: [row["models"][name]["class"] for row in rows]
            for name in names
        }
    figures = {
        "grad_cam": plotting.plot_grad_cam(
            arrays["images"],
            {x: arrays[f"{x}/heat_maps"] for x in names},
            probabilities={x: arrays[f"{x}/probability"] for x in names},
            classes=classes,
            labels=labels,
            boxes=arrays.get("boxes"),
            title=f"{TITLES[settings.method]} of {explained}",
        )
    }
    few = slice(ATTENTION_DRAWN)
    for name in names:
        prefix = f"{name}/attention/"
        gates = {
            key.removeprefix(prefix): array[few]
            for key, array in arrays.items()
            if key.startswith(prefix)
        }
        maps = {
            layer: (
                gates.get(f"{layer}/channel"),
                gates.get(f"{layer}/spatial"),
            )
            for layer in dict.fromkeys(x.rpartition("/")[0] for x in gates)
        }
        if maps:
            file = f"attention-{name.replace('/', '-')}"
            figures[file] = plotting.plot_attention_maps(
                arrays["images"][few],
                maps,
                labels=labels[few],
                title=f"Attention of {name}",
            )
    for file, figure in figures.items():
        _files.write_figure(folder / f"{file}.png", figure)


def _write(
    folder, content, arrays, networks, settings, described, command=None
):
    """Writes the arrays, and everything else as JSON."""
    with _files.replacing(folder / "arrays.npz") as path:
        np.savez_compressed(path, **arrays)
    _files.write_json(
        folder / "explain.json",
        {
            "settings": {**dataclasses.asdict(settings), **described},
            "versions": study.versions(),
            **({} if command is None else {"command": command}),
            "models": {x.name: str(x.path) for x in networks},
            **content,
        },
    )
