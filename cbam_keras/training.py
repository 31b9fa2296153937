"""Training by recipe, resumable after a crash."""

from cbam_keras.study.plans.recipes import RECIPES, Recipe
from cbam_keras.study.programs.training import train

__all__ = ["train", "Recipe", "RECIPES"]


def __dir__() -> list[str]:
    return __all__
