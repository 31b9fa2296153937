"""Where networks look, and what they predict: drawn and written."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from cbam_keras import _checks, _files, _terminal, study
from cbam_keras._files import Json
from cbam_keras._graph import Maps
from cbam_keras.explain import (
    TITLES,
    GateImportance,
    attention_maps,
    class_probabilities,
    find_finer_layer,
    gate_importance,
    grad_cam,
    heat_in_region,
    pointing_game,
)
from cbam_keras.explain.figures import (
    MAX_ROWS,
    plot_attention_maps,
    plot_gate_importance,
    plot_grad_cam,
)
from cbam_keras.layers import MAPS
from cbam_keras.report.images import Images, find_images
from cbam_keras.report.networks import Run, has_attention, load_classifier

if TYPE_CHECKING:
    import pandas

# How many images are drawn with the attention of every layer.
ATTENTION_DRAWN = 4
# The report weighs gates by at most so many validation images.
GATE_IMAGES = 500
# Not the accuracy: there are few images, or they may have been trained on.
MEANS = {
    "hit_rate": "maximum in the box (%)",
    "energy": "heat in the box (%)",
    "region_energy": "heat in the region (%)",
    "region_iou": "IoU of heat and region (%)",
    "region_hit": "maximum in the region (%)",
}
# Marks a prediction that is wrong.
WRONG = " \N{MULTIPLICATION SIGN}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of `cbam-keras explain`, see its `--help`."""

    images: Sequence[str] | None = None
    regions: str | None = None
    mistakes: bool = False
    wanted: str | None = None
    layer: str | None = None
    method: str = "grad_cam"
    draw: int = 8
    batch_size: int = 32
    split: str = "test"
    count: int | None = 8
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "draw", "count"):
            if getattr(self, name) is not None:
                _checks.positive_integer(name, getattr(self, name))
        if self.seed is not None:
            _checks.seed("seed", self.seed)
        if self.draw > MAX_ROWS:
            raise ValueError(
                f"`draw` must be at most {MAX_ROWS}, or the figure "
                f"cannot be read. Received: draw={self.draw}"
            )


@dataclasses.dataclass(frozen=True)
class Explained:
    """What a network says of images, and where it looks.

    `classes` are those that are explained. There are heat maps of the drawn
    images; `pointing` has `hit` and `energy` of all, where boxes are known, and
    `regions` is what `heat_in_region` returns, where masks are.
    """

    probabilities: np.ndarray
    classes: np.ndarray
    heat_maps: np.ndarray
    pointing: Mapping[str, np.ndarray]
    regions: "pandas.DataFrame | None"
    attention: Mapping[str, Maps]
    finer_layer: str | None

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """The numbers of each image, as far as they are known."""
        rows = np.arange(len(self.probabilities))
        return {
            "probability": self.probabilities[rows, self.classes],
            "predicted_probability": self.probabilities[rows, self.predicted],
            **self.pointing,
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, by the names in `arrays.npz`."""
        gates = {
            f"attention/{layer}/{gate}": values
            for layer, pair in self.attention.items()
            for gate, values in zip(MAPS, pair, strict=True)
            if values is not None
        }
        return {
            "explained": self.classes,
            "predicted": self.predicted,
            "probabilities": self.probabilities,
            "heat_maps": self.heat_maps,
            **self.numbers,
            **gates,
        }

    @property
    def means(self) -> dict[str, float]:
        """Means over the images, as far as they are known."""
        names = {"hit": "hit_rate", "energy": "energy"}
        means = {names[x]: y.mean().item() for x, y in self.pointing.items()}
        if self.regions is not None:
            means |= mean_of_regions(self.regions)
        return means

    def describe(self, row: int, class_names: Sequence[str]) -> Json:
        """Returns what is written of an image."""
        index, predicted = self.classes[row].item(), self.predicted[row].item()
        return {
            "class": class_names[index],
            "class_index": index,
            "predicted_class": class_names[predicted],
            "predicted_class_index": predicted,
            **{key: x[row].item() for key, x in self.numbers.items()},
        }


def explain_run(
    run: Run,
    settings: Settings,
    *,
    output: str | pathlib.Path | None,
    command: str,
    described: Mapping[str, object] | None = None,
) -> tuple[str, pathlib.Path]:
    """Explains predictions of a run, and writes and draws them into a folder.

    `described` are further settings to write. Of `mistakes` only as many images
    are explained as are drawn, with regions all, of which these come first.
    Most networks get them wrong but for the last quarter. Returns tables, and
    the folder.
    """
    # It is only needed at the end, but checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    if output is None:
        output = pathlib.Path("runs") / f"explain-{run.folder.absolute().stem}"
    output = _free_folder(output)
    index = _find_class_index(settings.wanted, run.class_names)
    chosen = settings.split, settings.count, settings.seed
    images = find_images(run, settings.images, *chosen, settings.regions)
    networks = {path.stem: load_classifier(path) for path in run.files}
    probabilities = {
        name: _predict(name, model, images, settings.batch_size)
        for name, model in networks.items()
    }
    gates: dict[str, GateImportance] = {}
    if settings.mistakes:
        answers = [x.argmax(axis=1) for x in probabilities.values()]
        wrong = sum(answer != images.labels for answer in answers)
        rows = np.argsort(-wrong, kind="stable")
        # A quarter are right, to compare with.
        most = settings.draw - settings.draw // 4
        ends = most, max(most, len(rows) - settings.draw // 4)
        mistakes, others, right = np.split(rows, ends)
        rows = np.concatenate([mistakes, right, others])
        # Means of those alone would be of mistakes.
        if settings.regions is None:
            rows = rows[: settings.draw]
        probabilities = {name: x[rows] for name, x in probabilities.items()}
        images = images.take(rows)
        gates = _weigh_gates(run, networks)
    explained = {
        name: _explain(name, x, images, probabilities[name], index, settings)
        for name, x in networks.items()
    }
    source = None if settings.images else run.content["source"]["name"]
    content = {
        "settings": {
            **dataclasses.asdict(settings),
            "data": source,
            "split": source and settings.split,
            "count": len(images),
            "seed": run.seed if settings.seed is None else settings.seed,
            **(described or {}),
        },
        "versions": study.versions(),
        "command": command,
        "class_names": run.class_names,
        "models": {path.stem: str(path) for path in run.files},
        "finer_layers": {name: x.finer_layer for name, x in explained.items()},
        "summary": {name: x.means for name, x in explained.items()},
        "images": _describe_images(images, explained, run.class_names),
        "gate_tables": {
            name: dataclasses.asdict(x.table) for name, x in gates.items()
        },
        "maps": {
            name: [x for x in MAPS if any(y.endswith(x) for y in one.arrays)]
            for name, one in explained.items()
        },
    }
    if (boxes := images.boxes()) is not None:
        low, high = np.hsplit(boxes, 2)
        areas = (high - low).prod(axis=1)
        content["box_fraction"] = float(areas.mean() / np.prod(images.size))
    folder = _files.output_folder(output)
    with _files.locked(folder / _files.LOCK):
        _write(folder, content, images.take(slice(settings.draw)), explained)
        for name, importance in gates.items():
            figure = plot_gate_importance(importance, measure="probability")
            _files.write_figure(folder / f"gates-{name}.png", figure)
    return _make_tables(content, settings.draw), folder


def _free_folder(output):
    """Returns the path of a folder that is empty or that of an explanation."""
    folder = _files.folder_path(output)
    if (folder / study.STUDY).exists():
        # The run keeps its files apart from those of explanations.
        folder /= study.EXPLANATIONS
    if not folder.exists():
        # It is made once all else is right.
        return folder
    _files.output_folder(folder)
    names = {path.name for path in folder.iterdir()}
    others = sorted(name for name in names if not name.startswith("."))
    # A process that is killed leaves its lock, and the others behind.
    if others and names.isdisjoint((_files.EXPLAINED, _files.LOCK)):
        raise ValueError(
            "`output` must be a new or empty folder, or that of a run or an "
            f'explanation. Received: output="{folder}", which holds other '
            f"files: {_checks.first_few(others)}. Choose another folder"
        )
    return folder


def _find_class_index(class_name, names):
    """Returns the index of the class to explain, or `None` if not given."""
    if class_name is None:
        return None
    if class_name in names:
        return names.index(class_name)
    if class_name.isdecimal() and int(class_name) < len(names):
        return int(class_name)
    raise ValueError(
        "`class` must be the name of a class, as in the results of the run, or "
        f"an index from 0 to {len(names) - 1}. Received: class={class_name!r}"
        f"{_checks.did_you_mean(class_name, names, 3)}"
    )


def _predict(name, model, images, batch_size):
    """Returns the class probabilities `(B, classes)` of images."""
    batches = images.batches(batch_size, f"Predicting with {name}")
    views = (batch.pixels() for _, batch in batches)
    options = {"batch_size": batch_size}
    parts = [class_probabilities(model, view, **options) for view in views]
    return np.concatenate(parts)


def _explain(
    name: str,
    model: keras.Model,
    images: Images,
    probabilities: np.ndarray,
    index: int | None,
    settings: Settings,
) -> Explained:
    """Explains the class of the index, else the true or predicted one."""
    labels = images.labels
    classes = np.where(labels < 0, probabilities.argmax(axis=1), labels)
    if index is not None:
        classes[:] = index
    pandas = _checks.require("pandas", extra="plot")
    drawn = images.take(slice(settings.draw))
    # Heat on images that are not drawn is only needed for boxes and regions.
    has_places = images.boxes() is not None or images.regions is not None
    pointed_at = images if has_places else drawn
    heat_maps, regions, pointing = [], [], collections.defaultdict(list)
    title = f"Explaining {name}"
    for rows, batch in pointed_at.batches(settings.batch_size, title):
        try:
            heat = grad_cam(
                model,
                batch.pixels(),
                classes[rows].tolist(),
                settings.layer,
                method=settings.method,
                batch_size=settings.batch_size,
            )
        except (ValueError, TypeError) as error:
            error.args = (f"{error} (model {name})",)
            raise
        heat_maps.append(heat[: max(0, settings.draw - rows.start)])
        if (boxes := batch.boxes()) is not None:
            hit, energy = pointing_game(heat, boxes)
            pointing["hit"].append(hit)
            pointing["energy"].append(energy)
        if (masks := batch.masks()) is not None:
            regions.append(heat_in_region(heat, masks))
    pixels, attention, finer_layer = drawn.pixels(), {}, None
    if has_attention(model):
        attention = attention_maps(
            model, pixels, batch_size=settings.batch_size
        )
    if settings.layer is None:
        finer_layer = find_finer_layer(model, pixels[:1])
    return Explained(
        probabilities=probabilities,
        classes=classes,
        heat_maps=np.concatenate(heat_maps),
        pointing={name: np.concatenate(x) for name, x in pointing.items()},
        regions=pandas.concat(regions) if regions else None,
        attention=attention,
        finer_layer=finer_layer,
    )


def _weigh_gates(run, networks) -> dict[str, GateImportance]:
    """Returns what the gates of networks with attention are worth."""
    gated = [name for name, model in networks.items() if has_attention(model)]
    if not gated or run.source is None:
        return {}
    images = find_images(run, split="validation", count=GATE_IMAGES)
    pixels, gates = images.pixels(), {}
    for name in _terminal.show_progress(gated, len(gated), "Weighing gates"):
        try:
            found = gate_importance(networks[name], pixels, images.labels)
            gates[name] = dataclasses.replace(found, model=name)
        except ValueError as error:
            # The page has the pictures all the same.
            _checks.warn(f"The report does not weigh gates of {name}: {error}")
    return gates


def _describe_images(images, explained, class_names):
    """Returns what is written of each image."""
    boxes = images.boxes()
    rows = []
    for number, label in enumerate(images.labels):
        row = {
            "image": str(images.names[number]),
            "true_class": class_names[label] if label >= 0 else None,
            "models": {
                name: x.describe(number, class_names)
                for name, x in explained.items()
            },
        }
        if boxes is not None:
            row["box"] = boxes[number].tolist()
        rows.append(row)
    return rows


def _write(folder, content, drawn, explained):
    """Writes everything, and draws some images."""
    _files.delete_unfinished(folder, "*")
    rows = content["images"][: len(drawn)]
    labels = [row["true_class"] or shorten(row["image"]) for row in rows]
    pixels, boxes = drawn.pixels(), drawn.boxes()
    arrays = {"names": drawn.names, "labels": drawn.labels, "images": pixels}
    if boxes is not None:
        arrays["boxes"] = boxes
    for name, one in explained.items():
        arrays |= {
            f"{name}/{key}": x[: len(drawn)] for key, x in one.arrays.items()
        }
        if one.attention:
            few = slice(ATTENTION_DRAWN)
            figure = plot_attention_maps(
                pixels[few],
                {
                    layer: [None if x is None else x[few] for x in pair]
                    for layer, pair in one.attention.items()
                },
                labels=labels[few],
                title=f"Attention of {name}",
            )
            _files.write_figure(folder / f"attention-{name}.png", figure)
    figure = plot_grad_cam(
        pixels,
        {name: x.heat_maps for name, x in explained.items()},
        probabilities={x: arrays[f"{x}/probability"] for x in explained},
        classes={
            x: [row["models"][x]["class"] for row in rows] for x in explained
        },
        labels=labels,
        boxes=boxes,
        title=TITLES[content["settings"]["method"]],
    )
    _files.write_figure(folder / "grad_cam.png", figure)
    _files.write_arrays(folder / "arrays.npz", arrays)
    _files.write_json(folder / _files.EXPLAINED, content)


def list_predictions(
    content: Json, networks: Sequence[str], most: int
) -> list[dict[str, str]]:
    """Returns a row for each of the images that most networks get wrong."""
    rows = []
    for row in content["images"]:
        texts = {
            "image": shorten(row["image"]),
            "true class": row["true_class"] or "",
        }
        for name in networks:
            answer = row["models"][name]
            predicted = answer["predicted_class"]
            texts[name] = f"{predicted} ({answer['predicted_probability']:.0%})"
            if row["true_class"] not in (None, predicted):
                texts[name] += WRONG
        rows.append(texts)
    rows.sort(key=lambda texts: -sum(WRONG in texts[x] for x in networks))
    return rows[:most]


def shorten(name: str) -> str:
    """Returns the name of an image with its own folder alone."""
    return "/".join(pathlib.PurePath(name).parts[-2:])


def mean_of_regions(measured: "pandas.DataFrame") -> dict[str, float]:
    """Returns means of what `heat_in_region` returns, without empty regions."""
    return measured.mean().dropna().add_prefix("region_").to_dict()


def list_means(content: Json) -> list[dict[str, str]]:
    """Returns a row per network, none where no true class or box is known."""
    summary = dict(content["summary"])
    if "box_fraction" in content:
        fraction = content["box_fraction"]
        summary["uniform heat"] = {"hit_rate": fraction, "energy": fraction}
    keys = [key for key in MEANS if any(key in x for x in summary.values())]
    rows = []
    for name, values in summary.items():
        row = {"model": name}
        for key in keys:
            row[MEANS[key]] = (
                f"{100 * values[key]:.1f}" if key in values else ""
            )
        rows.append(row)
    return rows if keys else []


def _make_tables(content, drawn):
    """Returns what the command prints."""
    rows = list_predictions(content, [*content["models"]], drawn)
    images = _checks.count(len(content["images"]), "image")
    title = f"Predictions, {len(rows)} of {images}"
    tables = [_terminal.Table(title, rows)]
    if means := list_means(content):
        tables.append(_terminal.Table("Means over all images", means))
    return "\n\n".join(map(str, tables))
