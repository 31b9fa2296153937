"""Output folders: killed, resumed, changed, damaged, shared, overwritten.

Written against what a user sees: the same call given again. It owns these
facts for every program that writes an output folder.
"""

import contextlib
import dataclasses
import errno
import functools
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from typing import NamedTuple

import digits
import h5py
import keras
import networks
import pretended
import pytest
from networks import linear

from cbam_keras import (
    ablation,
    cli,
    comparison,
    detection,
    models,
    training,
    tuning,
)

TWO = training.Recipe(epochs=2, batch_size=35)
# What differs from run to run.
VARYING = {"command", "seconds", "seconds_per_epoch", "output", "worker"}


def units(hp):
    """Returns a network with one hidden layer, for a search."""
    return networks.mlp(
        hp.Choice("units", [2, 3, 4, 5, 6, 7]),
        activation=hp.Choice("activation", ["tanh", "relu"]),
    )


def train(output, **options):
    build = {"linear": linear, "mlp": networks.mlp}
    given = {"networks": build, "images": "mnist5k", "recipe": TWO}
    return training.train(**{**given, **options}, output=output)


def compare(output, **options):
    given = {"images": "mnist5k", "recipe": TWO, "seeds": [0, 1]}
    return comparison.compare(
        ["none", "se"], **{**given, **options}, output=output
    )


def ablate(output, **options):
    given = {"images": "mnist5k", "recipe": TWO, "tables": [4], "seeds": [0]}
    return ablation.run(**{**given, **options}, output=output)


def tune(output, **options):
    given = {"hypermodel": units, "images": "mnist5k", "recipe": TWO}
    given |= {"max_trials": 2, "confirm": 1}
    return tuning.search(**{**given, **options}, output=output)


def detect(output, **options):
    given = {"seeds": [0], "recipe": training.Recipe(epochs=2, batch_size=20)}
    return detection.compare(["none"], **{**given, **options}, output=output)


PROGRAMS = {"train": train, "compare": compare, "ablate": ablate, "tune": tune}
# Building and loading detectors takes seconds.
ALL = [
    *PROGRAMS,
    pytest.param("detect", marks=[pytest.mark.exhaustive, pytest.mark.slow]),
]
every_program = pytest.mark.parametrize("name", ALL)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Only .* of the boxes:UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few digits, small networks, pretended training, figures not drawn."""
    figure = pytest.importorskip("matplotlib.figure").Figure

    def savefig(figure, path, **options):
        pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        # Attention makes no difference here, and takes time to build.
        patch.setitem(models.NETWORKS, "tiny", lambda *_, **__: linear())
        pretended.install(patch)
        patch.setattr(figure, "savefig", savefig)
        yield


def call(name, output, **options):
    """Calls a program as a user does, and returns what it answers."""
    program = {**PROGRAMS, "detect": detect}[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The averages of batch")
        return answer(program(output, **options))


def answer(results):
    """Returns the results without what differs from run to run."""
    if isinstance(results, training.Results) and not hasattr(results, "json"):
        found = dataclasses.asdict(results)
    else:
        found = json.loads(results.json())
    return without(found)


def without(value):
    if isinstance(value, dict):
        kept = {k: without(v) for k, v in value.items() if k not in VARYING}
        return kept
    if isinstance(value, list):
        return [without(entry) for entry in value]
    return value


def files(folder):
    """Returns the files below a folder, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder):
    """Returns all that the saved networks hold, as bytes."""
    found = {}
    for path in folder.rglob("*.keras"):
        content = zipfile.ZipFile(path).read("model.weights.h5")
        names: list[str] = []
        with h5py.File(io.BytesIO(content)) as file:
            file.visit(names.append)
            found[str(path.relative_to(folder))] = {
                name: file[name][()].tobytes()
                for name in names
                if isinstance(file[name], h5py.Dataset)
            }
    return found


@contextlib.contextmanager
def epochs():
    """Gives a list that grows by each epoch that is trained."""
    trained, fit = [], keras.Model.fit

    class Note(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            trained.append(epoch)

    @functools.wraps(fit)
    def noting(model, *arguments, callbacks=(), **options):
        return fit(model, *arguments, callbacks=[Note(), *callbacks], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", noting)
        yield trained


class Killed(BaseException):
    """In place of the signal that ends a process."""


class Kill(NamedTuple):
    """What SIGKILL leaves when a file is about to be put in its place."""

    folder: pathlib.Path
    epochs: int


@contextlib.contextmanager
def at_files(output, act):
    """Calls `act` with a count before each file of a folder gets its name."""
    replace, calls = os.replace, []

    def replacing(source, target, **options):
        if pathlib.Path(target).is_relative_to(output):
            calls.append(target)
            act(len(calls), pathlib.Path(source))
        replace(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replacing)
        yield calls


def leave(output, source, copy):
    """Copies a folder as a process leaves it that is killed at a file."""
    shutil.copytree(output, copy, symlinks=True)
    half = copy / source.relative_to(output)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])


def die(output, copy, count, source):
    """Kills at the eleventh file."""
    if count == 11:
        leave(output, source, copy)
        raise Killed


def kills(name, folder):
    """Returns an answer, and what a kill at each written file leaves."""
    output, left = folder / "whole", []
    with epochs() as trained:

        def act(count, source):
            left.append(Kill(folder / f"killed-{count}", len(trained)))
            leave(output, source, left[-1].folder)

        with at_files(output, act):
            whole = call(name, output)
    return whole, left, len(trained)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns a function that runs a program once, and its answer."""

    @functools.cache
    def run(name):
        output = tmp_path_factory.mktemp(name) / "run"
        return output, call(name, output)

    return run


def few(left):
    """Returns kills at the beginning, in the middle and at the end."""
    count = len(left)
    return [left[i] for i in sorted({0, 2, count // 3, 2 * count // 3, -1})]


# Killed.


def resumes_after_each(name, tmp_path, choose):
    whole, left, total = kills(name, tmp_path)
    expected = weights(tmp_path / "whole")
    assert len(left) > 8
    for kill in choose(left):
        with epochs() as trained:
            assert call(name, kill.folder) == whole
        # The epoch whose checkpoint was under way is trained again.
        assert total <= kill.epochs + len(trained) <= total + 1
        assert weights(kill.folder) == expected
        assert set(files(kill.folder)) == set(files(tmp_path / "whole"))


def test_a_run_killed_at_any_file_ends_as_an_unbroken_one(tmp_path):
    resumes_after_each("train", tmp_path, choose=list)


@pytest.mark.parametrize("name", ["compare", "ablate", "tune"])
def test_programs_killed_at_some_files_end_as_unbroken_ones(name, tmp_path):
    resumes_after_each(name, tmp_path, choose=few)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", ["compare", "ablate", "tune", "detect"])
def test_programs_killed_at_any_file_end_as_unbroken_ones(name, tmp_path):
    resumes_after_each(name, tmp_path, choose=list)


@pytest.mark.parametrize("name", ["random", "grid", "bayesian", "hyperband"])
def test_a_search_killed_again_and_again_ends_as_an_unbroken_one(
    name, tmp_path
):
    options = {"algorithm": name, "max_trials": 4, "confirm": 0}
    if name == "hyperband":
        # Enough for trials that continue others.
        options["recipe"] = training.Recipe(epochs=3, batch_size=35)
        del options["max_trials"]
    options = {"max_trials": None, **options}
    expected = call("tune", tmp_path / "whole", **options)
    output, lives, found = tmp_path / "life-0", 0, None
    while found is None:
        copy = tmp_path / f"life-{lives + 1}"
        with (
            contextlib.suppress(Killed),
            at_files(output, functools.partial(die, output, copy)),
        ):
            found = call("tune", output, **options)
        if found is None:
            output, lives = copy, lives + 1
    assert lives >= 3
    assert found == expected


COMMAND = (
    *("train", "--data", "mnist5k", "--epochs", "2", "--batch-size", "35"),
    *("--attention", "none", "se", "--no-report"),
)
DYING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import digits, networks, pretended, pytest
from cbam_keras import cli, models
digits.replace(digits.few)
models.NETWORKS["tiny"] = lambda *_, **__: networks.linear()
pretended.install(pytest.MonkeyPatch())
replace, calls = os.replace, []
def dying(source, target, **options):
    calls.append(target)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, **options)
os.replace = dying
cli.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_command_resumes_after_sigkill(tmp_path):
    arguments = [*COMMAND, "--output", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", DYING, os.path.dirname(__file__), *arguments],
        stdout=subprocess.DEVNULL,
    )
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.keras"))
    with epochs() as trained:
        assert cli.main(arguments) == 0
    assert len(trained) == 3
    assert cli.main([*COMMAND, "--output", str(tmp_path / "whole")]) == 0
    resumed, expected = (
        without(json.loads((tmp_path / name / "results.json").read_text()))
        for name in ("run", "whole")
    )
    assert resumed == expected


# Given again.


@every_program
def test_a_finished_run_is_not_trained_again(name, whole):
    output, expected = whole(name)
    kept = {
        path: path.stat().st_mtime_ns
        for path in output.rglob("*")
        if path.suffix in (".keras", ".csv") and "ablate" not in name
    }
    with epochs() as trained:
        assert call(name, output) == expected
    assert not trained
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.parametrize(
    ("name", "fewer", "more", "count"),
    [
        ("compare", {"seeds": [0, 1]}, {"seeds": [0, 1, 2]}, 4),
        ("ablate", {"tables": [4]}, {"tables": [1, 4]}, 4),
        ("ablate", {"seeds": [0]}, {"seeds": [0, 1]}, 6),
        (
            "tune",
            {"max_trials": 2, "confirm": 0},
            {"max_trials": 3, "confirm": 0},
            2,
        ),
        pytest.param(
            *("detect", {"seeds": [0]}, {"seeds": [0, 1]}, 2),
            marks=[pytest.mark.exhaustive, pytest.mark.slow],
        ),
    ],
)
def test_more_of_the_same_trains_what_is_missing(
    name, fewer, more, count, tmp_path
):
    call(name, tmp_path / "run", **fewer)
    with epochs() as trained:
        found = call(name, tmp_path / "run", **more)
    assert len(trained) == count
    assert found == call(name, tmp_path / "whole", **more)


def smaller(attention=None):
    return linear()


OTHER = dataclasses.replace(TWO, epochs=3)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("train", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        (
            "train",
            {"recipe": dataclasses.replace(TWO, seed=1)},
            "recipe.seed was 0, is 1",
        ),
        ("train", {"images": "cluttered_mnist"}, "data.name was 'mnist5k'"),
        ("train", {"settings": {"note": 1}}, "note was None, is 1"),
        (
            "train",
            {"networks": {"linear": linear}},
            r"networks was \['linear', 'mlp'\], is \['linear'\]",
        ),
        ("compare", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        (
            "compare",
            {"layer_options": {"reduction_ratio": 2}},
            "layer_options.reduction_ratio was 4, is 2",
        ),
        ("ablate", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        ("ablate", {"identity_init": False}, "identity_init was True"),
        ("ablate", {"model": smaller}, "model was 'tiny', is 'smaller'"),
        ("tune", {"recipe": OTHER}, "recipe.epochs was 2, is 3"),
        ("tune", {"algorithm": "grid"}, "algorithm was 'random', is 'grid'"),
        ("tune", {"max_macs": 1e9}, "budget.macs was None"),
        ("tune", {"max_trials": 1}, "may be raised .*, not lowered"),
    ],
)
def test_a_change_is_named_and_nothing_is_touched(
    name, changed, message, whole
):
    output, _ = whole(name)
    before = files(output)
    with pytest.raises(ValueError, match=message):
        call(name, output, **changed)
    assert files(output) == before


@every_program
def test_resuming_can_be_forbidden(name, whole):
    output, _ = whole(name)
    with pytest.raises(ValueError, match="resume=False"):
        call(name, output, resume=False)


def test_changed_layers_are_named(tmp_path):
    def stop(count, source):
        if count == 4:
            raise Killed

    output = tmp_path / "run"
    with pytest.raises(Killed), at_files(output, stop):
        call("train", output)
    changed = {
        "linear": lambda: linear(activation=None),
        "mlp": networks.mlp,
    }
    with pytest.raises(ValueError, match='the layers of network "linear"'):
        call("train", output, networks=changed)
    call("train", output)


# What else may be in the folder.


@pytest.mark.parametrize("overwrite", [False, True])
@every_program
def test_a_folder_with_other_files_is_left_alone(name, overwrite, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="other files: thesis.tex"):
        call(name, tmp_path, overwrite=overwrite)
    assert files(tmp_path) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "other"),
    [("train", "compare"), ("compare", "tune"), ("tune", "ablate")],
)
def test_another_kind_of_run_is_left_alone(name, other, overwrite, whole):
    output, _ = whole(other)
    before = files(output)
    with pytest.raises(ValueError, match="holds another run"):
        call(name, output, overwrite=overwrite)
    assert files(output) == before


@every_program
def test_overwriting_leaves_nothing_of_the_run_before(name, whole, tmp_path):
    output, expected = whole(name)
    shutil.copytree(output, tmp_path / "run")
    options = {"recipe": training.Recipe(epochs=1, batch_size=20)}
    call(name, tmp_path / "run", **options, overwrite=True)
    call(name, tmp_path / "new", **options)
    assert set(files(tmp_path / "run")) == set(files(tmp_path / "new"))
    assert weights(tmp_path / "run") == weights(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "mine"),
    [
        ("train", "notes.txt"),
        ("train", "pretrained.keras"),
        ("compare", "seed-0/notes.txt"),
        ("compare", "mine/results.json"),
        ("ablate", "se/notes.txt"),
        ("tune", "notes.txt"),
        ("tune", "trial_0001/notes.txt"),
    ],
)
def test_files_of_the_user_are_not_overwritten(name, mine, whole, tmp_path):
    output = shutil.copytree(whole(name)[0], tmp_path / "run")
    (output / mine).parent.mkdir(exist_ok=True)
    (output / mine).write_text("mine")
    before = files(output)
    with pytest.raises(ValueError, match=f"also holds {mine}"):
        call(name, output, overwrite=True)
    assert files(output) == before


def test_a_linked_folder_is_not_emptied(whole, tmp_path):
    output = shutil.copytree(whole("compare")[0], tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/results.json").write_text("mine")
    (output / "seed-2").symlink_to(tmp_path / "photos")
    with pytest.raises(ValueError, match="also holds seed-2"):
        call("compare", output, overwrite=True)
    assert (tmp_path / "photos/results.json").read_text() == "mine"


@pytest.mark.parametrize("name", ["train", "compare"])
def test_an_interrupted_overwrite_is_not_taken_for_a_run(
    name, whole, tmp_path, monkeypatch
):
    output = shutil.copytree(whole(name)[0], tmp_path / "run")
    unlink = os.unlink

    def interrupted(path, **options):
        if str(path).endswith(".keras"):
            raise Killed
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", interrupted)
        with pytest.raises(Killed):
            call(name, output, overwrite=True)
    with pytest.raises(ValueError, match="was being overwritten"):
        call(name, output)
    assert call(name, output, overwrite=True) == whole(name)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "mnist6k"}, 'Did you mean "mnist5k"'),
        ({"networks": {"a/b": linear}}, "must be valid file names"),
        (
            {"networks": {"net": lambda: linear(classes=9)}},
            "must take images of shape",
        ),
    ],
)
def test_nothing_is_overwritten_for_a_mistake(options, message, whole):
    output, _ = whole("train")
    before = files(output)
    with pytest.raises(ValueError, match=message):
        call("train", output, **options, overwrite=True)
    assert files(output) == before


@pytest.mark.parametrize("option", ["resume", "overwrite"])
@every_program
def test_resume_and_overwrite_are_booleans(name, option, tmp_path):
    with pytest.raises(TypeError, match=f"`{option}` must be True or False"):
        call(name, tmp_path / "run", **{option: 1})
    assert not (tmp_path / "run").exists()


# One process at a time.


@every_program
def test_a_folder_is_used_by_one_process_at_a_time(name, tmp_path):
    output, fit, refused = tmp_path / "run", keras.Model.fit, []

    def nested(model, *arguments, **options):
        if not refused:
            # A lock belongs to an open file, so this stands for another
            # process, which a subprocess shows in test_files.py.
            for overwrite in (False, True):
                with pytest.raises(ValueError, match="in use by process"):
                    call(name, output, overwrite=overwrite)
            refused.append(name)
        return fit(model, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", nested)
        call(name, output)
    assert refused


# Damaged.

CONTENTS = [b"", b"{", b"[]", b"{}", b"\xff", b'{"kind": "x", "settings": 5}']


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_damaged_run_is_named_until_it_is_overwritten(
    name, content, whole, tmp_path
):
    output, _ = whole(name)
    copy = tmp_path / "run"
    main = "search.json" if name == "tune" else "results.json"
    shutil.copytree(output, copy)
    kind = json.loads((copy / main).read_text())["kind"].encode()
    (copy / main).write_bytes(content.replace(b"x", kind))
    before = files(copy)
    with pytest.raises(ValueError, match=f"{main} is damaged"):
        call(name, copy)
    assert files(copy) == before
    if content == CONTENTS[1]:
        one = training.Recipe(epochs=1, batch_size=35)
        call(name, copy, recipe=one, overwrite=True)


@pytest.mark.parametrize("name", ["train", "tune"])
@pytest.mark.parametrize("file", ["*.keras", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_run_can_be_finished(
    name, file, whole, tmp_path
):
    output = tmp_path / "run"

    def stop(count, source):
        # In the second epoch.
        if source.name.endswith("-2.keras"):
            raise Killed

    with pytest.raises(Killed), at_files(output, stop):
        call(name, output)
    (path,) = (path for path in output.rglob(file) if path.parent != output)
    path.write_bytes(path.read_bytes()[:40])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = call(name, output)
            said = " ".join(str(warning.message) for warning in caught)
        except ValueError as error:
            said = str(error)
            # The advice that the error gives.
            shutil.rmtree(path.parent)
            found = call(name, output)
    assert str(path) in said
    assert found == whole(name)[1]


# A disk that is full or read-only, links, names.


@contextlib.contextmanager
def files_up_to(size):
    """Context in which the system lets no file become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 4000])
def test_a_full_disk_ends_in_one_line_and_the_run_resumes(
    size, tmp_path, capsys
):
    output = tmp_path / "run"
    with files_up_to(size):
        assert cli.main([*COMMAND, "--output", str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f'cbam-keras train: error: "{output}" can no longer be written to '
        "(File too large). What is in it is whole. Make room"
    )
    assert not any(name.startswith(".unf") for name in files(output))
    assert cli.main([*COMMAND, "--output", str(output)]) == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["compare", "tune"])
def test_a_full_disk_is_named_and_the_run_resumes(
    name, number, whole, tmp_path
):
    def full(count, source):
        if count == 4:
            raise OSError(number, os.strerror(number))

    output = tmp_path / "run"
    with (
        pytest.raises(RuntimeError, match="run.* can no longer be written to"),
        at_files(output, full),
    ):
        call(name, output)
    assert call(name, output) == whole(name)[1]


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    def denied(count, source):
        if count == 4:
            raise PermissionError(errno.EACCES, "denied", "photo.png")

    with (
        pytest.raises(PermissionError, match="photo.png"),
        at_files(tmp_path / "run", denied),
    ):
        call("train", tmp_path / "run")


def test_an_output_folder_may_be_a_link(tmp_path, whole):
    folder, link = tmp_path / "disk", tmp_path / "link"
    folder.mkdir()
    link.symlink_to("disk")
    assert call("train", link) == whole("train")[1]
    before = files(folder)
    assert call("train", link, overwrite=True) == whole("train")[1]
    assert link.is_symlink()
    assert set(files(folder)) == set(before)


@pytest.mark.parametrize(
    "output", ["file", "file/below"], ids=["file", "below_a_file"]
)
@every_program
def test_an_output_that_is_no_folder_is_refused(name, output, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="`output` must be a folder"):
        call(name, tmp_path / output)
    assert files(tmp_path) == {"file": b"mine"}


CALLS = {
    "train": lambda: comparison.compare(
        ["none"],
        images="mnist5k",
        recipe=training.Recipe(epochs=1, batch_size=35, learning_rate=0.03),
    ),
    "ablate": lambda: ablation.run(
        "mnist5k",
        tables=[4],
        seeds=1,
        recipe=training.Recipe(epochs=1, batch_size=35, learning_rate=0.03),
    ),
    "tune": lambda: tuning.search(
        tuning.CBAMHyperModel(attention=["none"]),
        "mnist5k",
        training.Recipe(epochs=1, batch_size=35, learning_rate=0.03),
        max_trials=1,
    ),
}
OPTIONS = {
    "train": ["--attention", "none"],
    "ablate": ["--tables", "4", "--seeds", "1"],
    "tune": ["--attention", "none", "--max-trials", "1"],
}


@pytest.mark.filterwarnings("ignore:The averages of batch:UserWarning")
@pytest.mark.parametrize("first", ["python", "command"])
@pytest.mark.parametrize("name", CALLS)
def test_python_and_the_command_resume_each_other(
    name, first, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    given = [
        *(name, "--data", "mnist5k", "--epochs", "1", "--batch-size", "35"),
        *("--no-report", *OPTIONS[name]),
    ]
    if first == "python":
        CALLS[name]()
    else:
        assert cli.main(given) == 0
    folder = pathlib.Path("runs", f"{name}-mnist5k-tiny")
    before = weights(folder)
    assert before
    with epochs() as trained:
        assert cli.main(given) == 0
        assert CALLS[name]().output == folder
    assert not trained
    assert [path.name for path in pathlib.Path("runs").iterdir()] == [
        folder.name
    ]
    capsys.readouterr()
    assert cli.main([*given, "--batch-size", "20"]) == 2
    error = capsys.readouterr().err
    assert "recipe.batch_size was 35, is 20" in error
    assert "--overwrite" in error
    assert weights(folder) == before


@pytest.mark.filterwarnings("ignore:The averages of batch:UserWarning")
def test_an_interrupted_command_has_its_page_and_the_line_that_resumes_it(
    tmp_path,
):
    output = tmp_path / "run"

    def stop(count, source):
        if source.name.endswith("-1.keras"):
            raise KeyboardInterrupt

    command = [*COMMAND[:-1], "--output", str(output)]
    with at_files(output, stop):
        assert cli.main(command) == 130
    content = json.loads((output / "results.json").read_text())
    assert content["command"].split() == ["cbam-keras", *command]
    assert "results.json" in files(output)
    assert "report.html" in files(output)
