"""Output folders as the commands leave them, of runs that train nothing."""

import contextlib
import functools
import itertools
import json
import pathlib
import shutil
import tempfile
import warnings

import folder_checks
import networks
import pretended
import pytest
from PIL import Image

from cbam_keras import tuning

# The name of a class, which must stay text.
EVIL = "<script>alert(1)</script>"
KINDS = ["none", "cbam", "se"]
# By the units of `network`: without attention, with CBAM and with SE.
ACCURACIES = {2: 0.8, 3: 0.9, 4: 0.85}


def network(attention):
    """Returns a network that the kind of attention tells apart."""
    return networks.mlp(2 if attention is None else 3 + is_se(attention))


def failing_after(count):
    """Returns what builds it, but for SE only so often."""
    builds = itertools.count()

    def failing(attention):
        if is_se(attention) and next(builds) >= count:
            raise RuntimeError(f"The loss was nan {EVIL}")
        return network(attention)

    return failing


def is_se(attention):
    return "SqueezeExcite" in str(attention)


@contextlib.contextmanager
def quick():
    """Programs train nothing, and draw nothing into their figures."""

    def numbers(model, *key):
        return 1.0, ACCURACIES[getattr(model.layers[-2], "units", 2)]

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A network is left out")
        folder_checks.quicken(patch)
        patch.setattr(pretended, "numbers", numbers)
        yield


def once(write):
    """Lets a function write a folder once, which is copied from then on."""

    @functools.cache
    def written():
        folder = tempfile.TemporaryDirectory()
        with quick():
            write(pathlib.Path(folder.name))
        return folder

    def copy(folder):
        return shutil.copytree(written().name, folder, dirs_exist_ok=True)

    return copy


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def figure(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "white").save(path, "PNG")


def change(folder, **values):
    """Changes what `study.json` holds."""
    file = folder / "study.json"
    dump(file, json.loads(file.read_text()) | values)
    return folder


def keep(folder, *networks):
    """Forgets all outcomes but those of networks, as `("none", 0)`."""
    kept = [f"{name}-seed{seed}" for name, seed in networks]
    for state in folder.glob("*/state.json"):
        if state.parent.name not in kept:
            shutil.rmtree(state.parent)
    return folder


@once
def train(folder):
    options = {"attentions": KINDS, "seeds": [0], "model": network}
    folder_checks.call("compare", folder, **options)
    explanation(folder / "explain")
    change(folder, command="cbam-keras train --data photos")


@once
def seeds(folder):
    """With a network that failed, and some that are not trained yet."""
    # It is built once before any is trained.
    options = {"attentions": KINDS, "seeds": [0, 1, 2]}
    folder_checks.call("compare", folder, model=failing_after(1), **options)
    trained = [(name, seed) for seed in (0, 1) for name in KINDS]
    keep(folder, *trained, ("none", 2))
    explanation(folder / "explain")


@once
def tune(folder):
    """With a trial that failed."""
    hypermodel = tuning.CBAMHyperModel(
        model=failing_after(0),
        attention=KINDS,
        reduction_ratio=16,
        kernel_size=7,
    )
    options = {"hypermodel": hypermodel, "max_trials": 3, "confirm": 2}
    folder_checks.call("tune", folder, **options)
    explanation(folder / "explain")


def explanation(folder):
    """An image that all get wrong, before another that all get right."""
    for name in ("grad_cam", "attention-cbam"):
        figure(folder / f"{name}.png")
    images = [
        {"image": f"test {number}", "true class": EVIL, "none": x, "cbam": x}
        for number, x in enumerate(["dog (75%) \N{MULTIPLICATION SIGN}", EVIL])
    ]
    dump(folder / "images.json", images)


FOLDERS = {
    "train": train,
    "seeds": seeds,
    "tune": tune,
}
