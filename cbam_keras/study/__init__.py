"""Trains variants with several seeds, resumes, and compares them.

`training.train`, `comparison.compare` and `ablation.run` are studies, and
`tuning.search` ends with one. Variants of a study may be your own networks.

- `study`: `Study`, `Variant`, `Comparison`, `Budget`, `Task`.
- `tasks`, `segmentation`: `Classification`, and `Segmentation` by masks.
- `comparison`, `ablation`, `training`: studies of attention, of the paper's
  tables, and of networks of your own; `recipes`: how networks are trained.
- `run`: `run`, which trains what is missing, and `estimate`, which counts it.
- `options`: `RunOptions`: where, by what and for whom it is run.
- `cell`: `train_cell`: one variant with one seed.
- `outcomes`: `Outcome`: how a training ended.
- `memory`: what trained networks leave in memory, freed.
- `checkpoints`: its state, saved after each epoch.
- `class_weights`: training images weighted by their classes.
- `measures`: `Measure`, and those of classifiers other than accuracy.
- `networks`: networks built, checked and compiled.
- `stages`: which layers are trained in the stages of fine-tuning.
- `folder`: the output folder, its locks and settings.
- `content`: `results.json`, read and checked.
- `cells`: the loop that trains the networks of a folder.
- `workers`: processes that train what is missing, kept alive.
- `worker`: the program that such a process runs.
- `machine`: the part of this machine that a worker gets.
- `interrupts`: how Ctrl-C and SIGTERM end a run.
- `figures/`: figures of results.
- `results`: `Results`: what has been trained, compared.
- `ranking`: networks ranked, as the trials of a search.
- `statistics`: means, paired differences and verdicts.
- `power`: which differences a study can find.
- `estimate`: what a study will train, counted, and the seeds it needs.
"""

from cbam_keras.study.cells import Cell, Cells
from cbam_keras.study.checkpoints import DAMAGE
from cbam_keras.study.class_weights import class_weights
from cbam_keras.study.content import CONFIRMATION, RESULTS, read_content
from cbam_keras.study.estimate import Cost, Estimate, seeds_needed
from cbam_keras.study.folder import (
    EXPLANATIONS,
    REPORT,
    StudyFolder,
    as_written,
    default_output,
    versions,
)
from cbam_keras.study.measures import (
    ACCURACY,
    MEASURES,
    Measure,
    compute,
    outputs_and_labels,
)
from cbam_keras.study.networks import (
    build_seeded,
    check_network,
    compile_network,
    fingerprint,
    loss_and_metrics,
    print_data,
)
from cbam_keras.study.options import RunOptions
from cbam_keras.study.outcomes import Outcome
from cbam_keras.study.power import describe_power
from cbam_keras.study.ranking import Ranking, Trial
from cbam_keras.study.recipes import RECIPES, Recipe, find_recipe
from cbam_keras.study.results import MANY, Results
from cbam_keras.study.run import (
    choose_workers,
    estimate,
    execute,
    run,
)
from cbam_keras.study.segmentation import Segmentation, make_predictor
from cbam_keras.study.statistics import Measured, Row, judge, verdict
from cbam_keras.study.study import (
    Budget,
    Comparison,
    Data,
    Study,
    Task,
    Variant,
    check_seeds,
)
from cbam_keras.study.tasks import Classification
from cbam_keras.study.workers import count_workers, training_by

__all__ = [
    "run",
    "estimate",
    "seeds_needed",
    "Study",
    "Variant",
    "Classification",
    "Segmentation",
    "Results",
    "Ranking",
    "Row",
    "Outcome",
    "Trial",
    "Estimate",
    "Budget",
    "Comparison",
    "Measure",
    "Task",
]
