"""Trains variants with several seeds, resumes, and compares them.

`training.train` and `comparison.compare` are studies, and `tuning.search` ends
with one. Variants of a study may be your own networks.

- `plans/`: what is trained: studies, tasks, recipes.
- `running/`: how: the run, its networks, checkpoints and workers.
- `results/`: results read, compared, printed and drawn.
"""

from cbam_keras.study.files import interrupts
from cbam_keras.study.files.folder import (
    CONFIRMATION,
    EXPLANATIONS,
    REPORT,
    StudyFolder,
    as_written,
    open_default,
    read_content,
    versions,
)
from cbam_keras.study.files.outcomes import Outcome
from cbam_keras.study.files.output_names import default_output
from cbam_keras.study.plans.measures import (
    ACCURACY,
    MEASURES,
    Measure,
    compute,
    validation_key,
)
from cbam_keras.study.plans.networks import (
    build_seeded,
    check_network,
    compile_network,
    fingerprint,
    loss_and_metrics,
)
from cbam_keras.study.plans.recipes import (
    RECIPES,
    Recipe,
    class_weights,
    find_recipe,
)
from cbam_keras.study.plans.segmentation import Segmentation, make_predictor
from cbam_keras.study.plans.study import Run, Study, Task, Variant, check_seeds
from cbam_keras.study.plans.tasks import Classification, Regression
from cbam_keras.study.programs import comparison, training
from cbam_keras.study.programs.given import results_of
from cbam_keras.study.results.ranking import Ranking, Trial
from cbam_keras.study.results.results import Results, read_results
from cbam_keras.study.results.statistics import Measured, verdict
from cbam_keras.study.results.tables import Row
from cbam_keras.study.running.estimate import Cost, Estimate, seeds_needed
from cbam_keras.study.running.run import Queue, RunOptions, estimate, run

__all__ = [
    "run",
    "estimate",
    "seeds_needed",
    "results_of",
    "Study",
    "Variant",
    "Classification",
    "Regression",
    "Segmentation",
    "Results",
    "Ranking",
    "Row",
    "Run",
    "Outcome",
    "Trial",
    "Estimate",
    "Measure",
    "Task",
]


def __dir__() -> list[str]:
    return __all__
