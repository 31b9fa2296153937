"""The names of classes, and the true class of each image."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cbam_keras import _checks, study
from cbam_keras._explanations.images import Images


def classes_of(
    models: Sequence[pathlib.Path],
    images: Images,
    counts: Mapping[str, int],
    given: Sequence[str] | None,
) -> tuple[Sequence[str] | None, np.ndarray]:
    """Returns the class names of models, and the label of each image.

    The names are the first that are known of these, else `None`:

    1. those that are given, by `--class-names`;
    2. those in the results of the run that trained the models, which lie
       beside them: a run records the names of its data;
    3. those of the dataset of the images, or of the folders that the images
       lie in, if there is one for each class.

    Labels are found by these names, -1 where a name is not known. A warning
    tells where an order is assumed: that of folders, and that of a dataset
    which has other names. `counts` are the numbers of classes of the models.
    """
    counts = dict(counts)
    if images.is_dataset:
        counts["the data"] = len(images.classes)
    if given is not None:
        counts["--class-names"] = len(given)
    classes, *others = {*counts.values()}
    if others:
        raise ValueError(
            "Models, data and the file of --class-names must have the same "
            f"number of classes. Received: {counts}"
        )
    names = given or _trained_on(models, classes)
    is_known = {*(names or ())} & {*images.classes}
    fits = len(images.classes) == classes > 1
    if fits and not is_known and (names is None or images.is_dataset):
        if names or images.in_folders:
            _checks.warn(
                "It is assumed that the classes of the images, "
                f"{_checks.first_few(images.classes)}, are in the order of "
                "the models' classes. If they are not, give their names in "
                "that order with --class-names FILE"
            )
        return names or images.classes, images.examples.labels
    places = {name: i for i, name in enumerate(names or ())}
    # The label -1 finds the last one.
    found = [*(places.get(name, -1) for name in images.classes), -1]
    return names, np.array(found)[images.examples.labels]


def _trained_on(models, classes):
    """Returns the class names of the runs that models belong to."""
    known = set()
    for folder in {path.parent for path in models}:
        try:
            known.add(tuple(study.read_content(folder).get("class_names", ())))
        except study.DAMAGE:
            # There is no run.
            continue
    known = {names for names in known if len(names) == classes}
    if len(known) > 1:
        listed = [_checks.first_few(names) for names in sorted(known)]
        raise ValueError(
            "Models must have the same classes in the same order to be "
            f"compared. Received: {'; '.join(listed)}"
        )
    return known.pop() if known else None


def class_index(
    wanted: str | None, names: Sequence[str] | None, classes: int
) -> int | None:
    """Returns the index of the class to explain, or `None` if not given."""
    if wanted is None:
        return None
    if names and wanted in names:
        return list(names).index(wanted)
    if wanted.isdecimal() and int(wanted) < classes:
        return int(wanted)
    raise ValueError(
        "`class` must be the name of a class, as --class-names FILE gives "
        f"them, or an index from 0 to {classes - 1}. Received: "
        f"class={wanted!r}{_checks.did_you_mean(wanted, names or (), 3)}"
    )
