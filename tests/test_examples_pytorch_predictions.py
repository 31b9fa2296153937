"""Two PyTorch networks, whose files of predictions become a page."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cbam_keras import study

torch = pytest.importorskip("torch")
metrics = pytest.importorskip("sklearn.metrics")
pytest.importorskip("pandas")

# Training in PyTorch loads no Keras.
SCRIPT = """
import json, pathlib, sys
import torch
from examples.pytorch_predictions import __main__ as example
torch.set_num_threads(1)
example.write(pathlib.Path(sys.argv[1]), seeds=2, epochs=1)
print(json.dumps("keras" in sys.modules))
"""


def test_files_of_pytorch_become_results(tmp_path):
    folder = tmp_path / "predictions"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) is False
    results = study.results_of(folder)
    assert results.baseline == "none" and results.seeds == (0, 1)
    with np.load(folder / "se_s1.npz") as file:
        answers = file["probs"].argmax(axis=1)
        accuracy = metrics.accuracy_score(file["labels"], answers)
    assert results.values("se", "test_accuracy")[study.Run(1)] == accuracy
    assert (results.write(tmp_path / "out")).exists()
