"""One training run by recipe, which resumes after a crash.

- `runs`: `train`, network by network.
- `recipe`: how a network is trained.
- `images`: the data of a recipe.
- `networks`: networks built, checked and compiled.
- `fitting`: one network, epoch by epoch.
- `checkpoints`: what is saved after each epoch.
- `folder`: the output folder.
- `results`: results of a run.
- `distribution`: several devices, processes and machines.
- `processes`: how processes under JAX meet and end.
"""

from cbam_keras.training.checkpoints import Damaged, Progress, best_epoch
from cbam_keras.training.distribution import Distribution, connect
from cbam_keras.training.fitting import Diverged, fit
from cbam_keras.training.images import describe_recipe, images_for
from cbam_keras.training.networks import (
    build_seeded,
    check_network,
    compile_network,
    count_parameters,
    fingerprint,
)
from cbam_keras.training.recipe import RECIPES, Recipe, find_recipe
from cbam_keras.training.results import Results, Run
from cbam_keras.training.runs import train

__all__ = ["RECIPES", "Distribution", "Recipe", "Results", "Run", "train"]
