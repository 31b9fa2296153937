"""The paper's comparisons on your own data, with several seeds.

`ABLATIONS` holds the networks, the rows of the paper's Tables 1 to 4 in
`cbam_keras.presets`, and `TABLES` says which table shows which. All spatial
gates are the authors' variant, `VARIANTS["official"]`.
"""

import functools
import numbers
from collections.abc import Sequence
from typing import Unpack

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras._checks import Options
from cbam_keras.data import Images
from cbam_keras.layers import ATTENTION, Attention, _docstrings
from cbam_keras.models import paper
from cbam_keras.study import comparison
from cbam_keras.study.measures import ACCURACY, Measure, outputs_and_labels
from cbam_keras.study.measures import MEASURES as HEADINGS
from cbam_keras.study.recipes import Recipe, find_recipe
from cbam_keras.study.results import Results
from cbam_keras.study.run import RunOptions, takes_run_options
from cbam_keras.study.run import run as run_study
from cbam_keras.study.statistics import TESTS
from cbam_keras.study.study import Comparison, Study, Variant
from cbam_keras.study.tasks import Classification

__all__ = ["run", "plan", "ABLATIONS", "TABLES"]

TABLES = paper.COMPARISONS
ABLATIONS: dict[str, paper.Preset] = {
    name: paper.ABLATIONS[f"resnet50-{name}".removesuffix("-none")]
    for names in TABLES.values()
    for name in names
}
# The tables hold the top-1 error and, with many classes, the top-5 error;
# another measure comes before them.
MEASURES = (
    Measure("test_accuracy", "top-1 error", is_error=True),
    Measure("top5_accuracy", "top-5 error", is_error=True),
)


class _TopFive(Classification):
    """Classification, measured by its top-5 accuracy too."""

    def evaluate(self, model, data):
        measured = super().evaluate(model, data)
        # With ten classes, it is right by chance half of the time.
        if len(data.class_names) > 10:
            scores, labels = outputs_and_labels(model, data.test)
            # The first of equal scores counts, as in top-1.
            first = np.argsort(-scores, axis=-1, kind="stable")[:, :5]
            hits = (first == labels[:, None]).any(axis=-1)
            measured["top5_accuracy"] = float(hits.mean())
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
    test: str = TESTS[0],
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
        measure: See `comparison.plan`. Tables show one minus this measure in
            place of the error. Defaults to `"test_accuracy"`.
        test: See `comparison.plan`; `"dunnett"` corrects within each table.
            Defaults to `"holm"`, which corrects none.

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
    recipe = find_recipe(recipe, default)
    build, label, check = comparison.network_of(model, weights, recipe)
    task = _TopFive(data, measure=measure, **(data_options or {}))
    measures: Sequence[Measure] = MEASURES
    if measure != ACCURACY:
        heading = f"1 - {HEADINGS[measure]}"
        other = Measure(measure, heading, is_error=True)
        measures = (other, *MEASURES)
    shared = comparison.model_options(model)
    variants = []
    for name in dict.fromkeys(name for t in tables for name in TABLES[t]):
        preset, attention, options = ABLATIONS[name], None, {}
        if preset.layer is not None:
            attention = Attention(
                preset.layer if identity_init else ATTENTION[preset.layer],
                {**shared, **preset.layer_options},
            )
            options = attention.arguments
        built = functools.partial(build, attention=attention)
        called = preset.attention or comparison.BASELINE
        variants.append(Variant(name, built, options, label=called))
    return Study(
        task=task,
        variants=variants,
        seeds=comparison.seeds_of(seeds, recipe, task),
        recipe=recipe,
        settings={
            "model": label,
            "weights": weights,
            "identity_init": identity_init,
        },
        check=check,
        comparisons=[
            Comparison(
                baseline=TABLES[number][0],
                variants=TABLES[number],
                title=paper.COMPARED[number],
                number=number,
                every_seed=True,
            )
            for number in tables
        ],
        measures=measures,
        kind="ablate",
        layout="errors",
        question="Which parts of CBAM lower the error of the network "
        f"{label} on {task.name}?",
        finish=_finish,
        folds=folds,
        test=test,
    )


@_docstrings.explained_by(plan)
@takes_run_options
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
    test: str = TESTS[0],
    **options: Unpack[RunOptions],
) -> Results:
    """Runs the comparisons of the paper's Tables 1 to 4 on any dataset.

    The same call given again resumes, or trains what is missing. `cbam-keras
    ablate` runs it.

    It is `study.run(plan(...), **options)`. The output folder gets what
    `study.run` writes, and `tables.md`, `tables.csv` and `ablation.png`.

    Args:
        The arguments of `plan`, and:

        **options: `output`, `resume`, `overwrite`, `workers`, `executor` and
            `tensorboard`, as for `study.run`. `output` defaults to
            `runs/ablate-<data>-<model>`.

    Returns:
        A `study.Results` of errors, the fractions of test images that a
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
        test=test,
    )
    return run_study(planned, **options)


def _finish(results, folder):
    folder.add(verdict=results.verdict)
    if not results.rows:
        return
    texts = {"tables.md": results.markdown(), "tables.csv": results.csv()}
    for name, text in texts.items():
        with _files.replacing(folder.path / name) as beside:
            beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    _files.write_figure(folder.path / "ablation.png", results.plot())
