"""Searches whose trials workers train, several at a time."""

import pytest
import tuning_checks
from data_checks import arrays
from own_spaces import Space

from cbam_keras import study, tuning

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.mark.slow
def test_processes_train_the_trials_of_this_process(tmp_path):
    search = tuning.Search(
        Space(tuning_checks.mlp),
        arrays(per_class=20, classes=10, shape=(28, 28, 1)),
        tuning_checks.TWO,
        max_trials=3,
        confirm=1,
    )
    shared = study.run(search, tmp_path / "shared", workers=2)
    alone = study.run(search, tmp_path / "alone")
    for one, other in zip(shared.trials, alone.trials, strict=True):
        assert (one.variant, one.status) == (other.variant, other.status)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-5)
    assert len(shared.confirmation) == len(alone.confirmation)
