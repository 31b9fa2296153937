"""The paper's comparisons on your own data, with several seeds.

`ABLATIONS` holds the networks, the rows of the paper's Tables 1 to 4 in
`cbam_keras.presets`, and `TABLES` says which table shows which. All spatial
gates are the authors' variant, `VARIANTS["official"]`.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _files
from cbam_keras._checks import Options
from cbam_keras.data import ImageData, Images
from cbam_keras.layers import ATTENTION, BASELINE, Attention, _docstrings
from cbam_keras.models import paper
from cbam_keras.study.plans import comparison
from cbam_keras.study.plans.measures import (
    ACCURACY,
    Measure,
    outputs_and_labels,
)
from cbam_keras.study.plans.recipes import Recipe, find_recipe
from cbam_keras.study.plans.study import Comparison, Study
from cbam_keras.study.plans.tasks import Classification
from cbam_keras.study.results.results import Results
from cbam_keras.study.running.run import run_with

__all__ = ["run", "plan", "ABLATIONS", "TABLES"]

TABLES = paper.COMPARISONS
ABLATIONS: dict[str, paper.Preset] = {
    name: paper.ABLATIONS[f"resnet50-{name}".removesuffix("-none")]
    for names in TABLES.values()
    for name in names
}
ERRORS = (
    Measure("top1_error", "top-1 error", lower_is_better=True),
    # It is measured with more than ten classes.
    Measure("top5_error", "top-5 error", lower_is_better=True),
)


class _Errors(Classification):
    """Classification, measured by its errors, another measure before them."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        return ERRORS if self.score is None else (super().measures[0], *ERRORS)

    def evaluate(self, model: keras.Model, data: ImageData) -> dict[str, float]:
        measured, images = super().evaluate(model, data), data.sizes["test"]
        # Not one minus it, to be equal for equal numbers of images.
        wrong = round((1 - measured[ACCURACY]) * images)
        measured["top1_error"] = wrong / images
        # With ten classes, it is right by chance half of the time.
        if len(data.class_names) > 10:
            scores, labels = outputs_and_labels(model, data.test)
            # The first of equal scores counts, as in top-1.
            first = np.argsort(-scores, axis=-1, kind="stable")[:, :5]
            misses = (first != labels[:, None]).all(axis=-1)
            measured["top5_error"] = float(misses.mean())
        return measured


@_docstrings.explained_by(comparison.plan)
def plan(
    data: Images = "crowded_mnist",
    *,
    model: comparison.Network = "tiny",
    weights: str | None = None,
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    data_options: Options | None = None,
    folds: int | None = None,
    measure: str = ACCURACY,
) -> Study:
    """Plans the comparisons of the paper's Tables 1 to 4 on any dataset.

    Table 1 compares the pooling of the channel gate, Table 2 spatial gates
    after it, Table 3 the arrangement of the two, and Table 4 no attention, SE
    and CBAM.

    Each of the 10 networks is trained once per seed, however many tables show
    it.

    Args:
        data: See `comparison.plan`. Defaults to `"crowded_mnist"`.
        model: A network of `comparison.compare`, or a function that takes
            `attention` and returns a classifier. The builders of
            `cbam_keras.models` are such functions. Defaults to `"tiny"`.
        weights: See `comparison.plan`. Defaults to `None`.
        tables: Sequence of integers from 1 to 4, the tables of the paper.
            Defaults to `(1, 2, 3, 4)`.
        seeds: See `comparison.plan`. Defaults to `3`.
        recipe: See `comparison.plan`. Defaults to `None`.
        identity_init: Boolean, whether attention layers start as the identity.
            Those of `comparison.compare` do; `False` is the start of the paper.
            Defaults to `True`.
        data_options: See `comparison.plan`. Defaults to `None`.
        folds: See `comparison.plan`. Defaults to `None`.
        measure: See `comparison.plan`. The errors are further columns then.
            Defaults to `"test_accuracy"`: the top-1 error is compared.

    Returns:
        A `study.Study`, for `study.run` and `study.estimate`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package for the data or the figure is missing.
    """
    # The figures at the end need it: it is checked before any work.
    _checks.require("matplotlib.figure", extra="plot")
    _checks.boolean("identity_init", identity_init)
    asked = [tables] if isinstance(tables, numbers.Integral) else tables
    # In the order of the paper.
    tables = sorted(_checks.subset("tables", asked, TABLES))
    default = comparison.default_recipe(model, weights, data)
    task = _Errors(data, measure=measure, **(data_options or {}))
    names = dict.fromkeys(name for number in tables for name in TABLES[number])
    planned = comparison.plan_layers(
        {name: _attention_of(name, model, identity_init) for name in names},
        task,
        model,
        weights,
        find_recipe(recipe, default),
        seeds,
    )
    network = planned.settings["model"]
    return dataclasses.replace(
        planned,
        variants=[
            dataclasses.replace(
                variant,
                label=ABLATIONS[variant.name].attention or BASELINE,
            )
            for variant in planned.variants
        ],
        settings={**planned.settings, "identity_init": identity_init},
        comparisons=[
            Comparison(
                baseline=TABLES[number][0],
                variants=TABLES[number],
                title=paper.COMPARED[number],
                number=number,
            )
            for number in tables
        ],
        kind="ablate",
        question="Which parts of CBAM lower the error of the network "
        f"{network} on {task.name}?",
        finish=_finish,
        folds=folds,
    )


def _attention_of(name, model, identity_init):
    preset = ABLATIONS[name]
    if preset.layer is None:
        return None
    return Attention(
        preset.layer if identity_init else ATTENTION[preset.layer],
        {**comparison.model_options(model), **preset.layer_options},
    )


@_docstrings.explained_by(plan)
def run(
    data: Images = "crowded_mnist",
    *,
    model: comparison.Network = "tiny",
    weights: str | None = None,
    tables: Sequence[int] = (1, 2, 3, 4),
    seeds: int | Sequence[int] = 3,
    recipe: Recipe | str | None = None,
    identity_init: bool = True,
    data_options: Options | None = None,
    folds: int | None = None,
    measure: str = ACCURACY,
    **options: Any,
) -> Results:
    """Runs the comparisons of the paper's Tables 1 to 4 on any dataset.

    The same call given again resumes, or trains what is missing. `cbam-keras
    ablate` runs it.

    It is `study.run(plan(...), **options)`. The output folder gets what
    `study.run` writes, and `tables.md`, `tables.csv` and `ablation.png`.

    Args:
        The arguments of `plan`, and:

        **options: `output`, `resume`, `overwrite`, `workers`, `executor` and
            `callbacks`, as for `study.run`. `output` defaults to
            `runs/ablate-<data>-<model>`.

    Returns:
        A `study.Results` of the errors, the fractions of test images that a
        network is wrong about.

    Raises:
        ValueError: If an argument is out of range, see `plan`, `study.run`.
        TypeError: If an argument is of a wrong kind, or unknown.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import ablation
        >>> ablation.TABLES[4]
        ('none', 'se', 'cbam')
        >>> ablation.ABLATIONS["parallel"].attention
        'channel & spatial in parallel'

    Reference:
        Woo, Park, Lee and Kweon, 2018, Tables 1 to 4
        (https://arxiv.org/abs/1807.06521).
    """
    planned = plan(
        data,
        model=model,
        weights=weights,
        tables=tables,
        seeds=seeds,
        recipe=recipe,
        identity_init=identity_init,
        data_options=data_options,
        folds=folds,
        measure=measure,
    )
    return run_with(planned, options)


def _finish(results, folder):
    folder.add(verdict=results.verdict)
    if not results.rows:
        return
    texts = {"tables.md": results.markdown(), "tables.csv": results.csv()}
    for name, text in texts.items():
        with _files.replacing(folder.path / name) as beside:
            beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    _files.write_figure(folder.path / "ablation.png", results.plot())
