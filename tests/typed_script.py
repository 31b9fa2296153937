"""What a user may write, for the type checker alone: nothing runs it.

`mypy` checks it with the package, by `setup.cfg`. A comment `type: ignore`
that is not needed is an error, so each of these is a mistake that it sees.
"""

from typing import assert_type

import cbam_keras
from cbam_keras import blocks, comparison, plotting, presets, study, training
from cbam_keras.comparison import compare, plan
from cbam_keras.losses import PixelIoU
from cbam_keras.training import Recipe, train
from cbam_keras.tuning import search

assert_type(compare(["none", "cbam"], stages="top", seeds=3), study.Results)
assert_type(plan(data="mnist5k", folds=3), study.Study)
assert_type(train({}, "mnist5k", Recipe(epochs=3), workers=2), study.Results)
assert_type(search(data="mnist5k", confirm=0, output="runs"), study.Ranking)
assert_type(comparison.compare().verdict, str)
assert_type(cbam_keras.training.RECIPES["frozen"], Recipe)
assert_type(training.Recipe(patience=3).epochs, int)
assert_type(PixelIoU(2, score="dice").score, str)
presets.build_preset("resnet50-cbam", classes=3)
plotting.plot_history([], title="My runs")
blocks.relu(None, name="relu")

compare(attention=["cbam"])  # type: ignore[call-arg]
compare(seeds="three")  # type: ignore[arg-type]
plan(output="runs")  # type: ignore[call-arg]
train({}, epochs=3)  # type: ignore[call-arg]
search(trials=3)  # type: ignore[call-arg]
Recipe(epoch=3)  # type: ignore[call-arg]
plotting.plot_history([], titel="My runs")  # type: ignore[call-arg]
blocks.relu(None)  # type: ignore[call-arg]
presets.build_preset(classes=3)  # type: ignore[call-arg]
