"""A network without attention and with others, compared."""

from cbam_keras.study.programs.comparison import NETWORKS, compare, plan

__all__ = ["compare", "plan", "NETWORKS"]


def __dir__() -> list[str]:
    return __all__
