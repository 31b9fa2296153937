"""Training by recipe, resumable after a crash.

- `runs`: `train`, one network after the other.
- `recipe`: `Recipe`: optimizer, schedule, epochs, augmentation.
- `images`: the data of a recipe.
- `networks`: networks built, checked and compiled.
- `fitting`: training of one network, epoch by epoch.
- `checkpoints`: the state saved after each epoch.
- `folder`: the output folder.
- `tensorboard`: logs for TensorBoard.
- `results`: results of a run.
- `estimates`: `estimate`: how long a training will take.
- `repeated`: the same networks over several seeds.
- `statistics`: means, paired differences and verdicts over seeds.
- `distribution`: several devices, processes and machines.
- `processes`: how processes under JAX meet and end.
"""

from cbam_keras.training.checkpoints import Progress, best_epoch
from cbam_keras.training.distribution import Distribution, connect
from cbam_keras.training.estimates import (
    Cost,
    Estimate,
    estimate,
    time_steps,
)
from cbam_keras.training.fitting import Diverged, fit, fit_in
from cbam_keras.training.folder import (
    SeedsFolder,
    TrainingFolder,
    training_files,
)
from cbam_keras.training.images import describe_recipe, images_for
from cbam_keras.training.networks import (
    build_seeded,
    check_network,
    compile_network,
    count_parameters,
    fingerprint,
)
from cbam_keras.training.recipe import RECIPES, Recipe, find_recipe
from cbam_keras.training.repeated import (
    check_repeatable,
    check_seeds,
    train_over_seeds,
)
from cbam_keras.training.results import Results, Run
from cbam_keras.training.runs import train
from cbam_keras.training.statistics import (
    CONFIDENCE,
    Compared,
    Measured,
    compared,
    deviation,
    interval,
    judge,
    verdict,
)
from cbam_keras.training.tensorboard import check_tensorboard, log_trial

__all__ = ["RECIPES", "Distribution", "Recipe", "Results", "Run", "train"]
