"""training."""

from cbam_keras.training.checkpoints import Damaged, Progress, best_epoch
from cbam_keras.training.distribution import Distribution, connect
from cbam_keras.training.fitting import Diverged, fit
from cbam_keras.training.images import (
    as_images,
    describe_recipe,
    load,
    load_by_recipe,
)
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
