"""training."""

from cbam_keras.training.checkpoints import Damaged, Progress, best_epoch
from cbam_keras.training.distribution import Distribution, connect
from cbam_keras.training.fitting import (
    Diverged,
    build_seeded,
    check_network,
    compile_network,
    count_parameters,
    fingerprint,
    fit,
)
from cbam_keras.training.folder import Results, Run
from cbam_keras.training.recipe import RECIPES, Recipe, find_recipe
from cbam_keras.training.runs import (
    as_images,
    describe_recipe,
    load_by_recipe,
    train,
)
