"""One-line bugs that the tests must notice; run on demand.

    python tests/mutants.py                # all, and a summary
    python tests/mutants.py rows insertion # those whose file matches a word

Each mutant changes one line so that a user would be hurt. It is applied to a
copy of the package, and the test file that owns the fact runs on it, at the
default level (what `python -m pytest` selects). A mutant is caught if a test
fails there and the same file passes on the unchanged package.

A mutant whose code has moved names the new file; a mutant that is no longer
possible is replaced by another.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
CAUGHT, PASSED, NO_TESTS = 1, 0, 5


class Mutant(NamedTuple):
    """A bug: the file in `cbam_keras`, its owner in `tests`, the change."""

    file: str
    owner: str
    old: str
    new: str


MUTANTS = (
    # Layers and saving.
    Mutant(
        "layers/channel_attention.py",
        "test_layers_channel_attention.py",
        "1, (2 * channels + ratio) // (2 * ratio)",
        "1, channels // ratio",
    ),
    Mutant(
        "layers/channel_attention.py",
        "test_layers_channel_attention.py",
        "None if bias is None else len(pooled) * bias",
        "bias",
    ),
    Mutant(
        "layers/channel_attention.py",
        "test_layers_channel_attention.py",
        "return x if bias is None else x + ops.cast(bias, x.dtype)",
        "return x",
    ),
    Mutant(
        "layers/spatial_attention.py",
        "test_layers_spatial_attention.py",
        "momentum=0.99,",
        "momentum=0.9,",
    ),
    Mutant(
        "layers/spatial_attention.py",
        "test_layers.py",
        "last=not self.use_batch_norm,",
        "last=True,",
    ),
    Mutant(
        "layers/cbam.py",
        "test_layers_cbam.py",
        'return gates[::-1] if self.order == "spatial_first" else gates',
        "return gates",
    ),
    Mutant(
        "layers/cbam.py",
        "test_layers_cbam.py",
        '"spatial_pool_types": ("max", "avg"),',
        '"spatial_pool_types": ("avg", "max"),',
    ),
    Mutant(
        "layers/attention_layer.py",
        "test_layers.py",
        '"identity_init": self.identity_init,',
        '"identity_init": False,',
    ),
    Mutant(
        "layers/attention_layer.py",
        "test_layers.py",
        "gate = gate * self._gate_scale",
        "gate = gate * 1.0",
    ),
    Mutant(
        "layers/attention_layer.py",
        "test_layers.py",
        'return "float64" if self.compute_dtype == "float64" else "float32"',
        "return self.compute_dtype",
    ),
    Mutant(
        "layers/attention_layer.py",
        "test_layers.py",
        "autocast=False,",
        "autocast=True,",
    ),
    Mutant(
        "layers/squeeze_excite.py",
        "test_layers_saving.py",
        'register_keras_serializable(package="cbam_keras")',
        'register_keras_serializable(package="cbam")',
    ),
    Mutant(
        "layers/pools.py",
        "test_layers_channel_attention.py",
        "return ops.sqrt(total + empty) - empty",
        "return ops.sqrt(total)",
    ),
    # Engine.
    Mutant(
        "_fused/operation.py",
        "test_fused.py",
        "(to_dx if self.parallel else to_dp).append(dpools2)",
        "to_dp.append(dpools2)",
    ),
    Mutant(
        "_fused/operation.py",
        "test_fused_layers.py",
        "variable.assign(value)",
        "variable.assign(variable)",
    ),
    Mutant(
        "_fused/tensorflow_passes.py",
        "test_fused.py",
        "index == pools.argmax, pools.max, zero",
        "index == pools.argmax, 0 * pools.max, zero",
    ),
    Mutant(
        "_fused/rows.py",
        "test_fused_layers.py",
        "margin = size // 2 * dilation_rate",
        "margin = size // 2",
    ),
    # Insertion and conversion.
    Mutant(
        "insertion/copying.py",
        "test_insertion_copying.py",
        "copy.trainable = inner.trainable",
        "copy.trainable = True",
    ),
    Mutant(
        "insertion/candidates.py",
        "test_insertion_insert.py",
        'changes["identity_init"] = True',
        'changes["identity_init"] = False',
    ),
    Mutant(
        "insertion/default_places.py",
        "test_insertion_default_places.py",
        "while self._is_skipped(step) and len(step.inputs) == 1:",
        "while False:",
    ),
    Mutant(
        "insertion/default_places.py",
        "test_insertion_default_places.py",
        "for x, count in sides if count > fewest",
        "for x, count in sides if count == fewest",
    ),
    Mutant(
        "convert/matching.py",
        "test_convert_loading.py",
        "value = value[..., self.maps, :]",
        "value = value[..., sorted(self.maps), :]",
    ),
    Mutant(
        "convert/loading.py",
        "test_convert_errors.py",
        "unused = set(report.unused)",
        "unused = set()",
    ),
    Mutant(
        "models/blocks.py",
        "test_models_resnet.py",
        "if stride == 1:\n        return x, ",
        "if stride >= 1:\n        return x, ",
    ),
    Mutant(
        "models/blocks.py",
        "test_models_resnet.py",
        'x = attend(x, attention, name=f"{name}_attention")',
        'shortcut = attend(shortcut, attention, name=f"{name}_attention")',
    ),
    # Studies, search, statistics, files.
    Mutant(
        "_files.py",
        "test_files.py",
        "raise InUse(path) from None",
        "return",
    ),
    Mutant(
        "study/folder.py",
        "test_output_folders.py",
        "        if foreign:",
        "        if not foreign:",
    ),
    Mutant(
        "study/folder.py",
        "test_resuming.py",
        "        if changed:\n            raise ValueError(",
        "        if not changed:\n            raise ValueError(",
    ),
    Mutant(
        "study/folder.py",
        "test_study.py",
        'if cell["status"] not in RETRIED',
        "if True",
    ),
    Mutant(
        "study/folder.py",
        "test_study.py",
        'cell["file"] = name\n',
        "pass\n",
    ),
    Mutant(
        "study/checkpoints.py",
        "test_training.py",
        'key=lambda row: (row["val_accuracy"], -row["val_loss"])',
        'key=lambda row: (row["val_accuracy"], row["val_loss"])',
    ),
    Mutant(
        "study/checkpoints.py",
        "test_training.py",
        "if path.name not in (state.latest, state.best):",
        "if path.name != state.latest:",
    ),
    Mutant(
        "study/checkpoints.py",
        "test_training.py",
        "variable.assign(value)",
        "variable.assign(variable)",
    ),
    Mutant(
        "study/networks.py",
        "test_study_networks.py",
        "keras.utils.set_random_seed(recipe.seed)",
        "keras.utils.set_random_seed(0)",
    ),
    Mutant(
        "study/results.py",
        "test_study_statistics.py",
        "values[seed] - baseline[seed]",
        "baseline[seed] - values[seed]",
    ),
    Mutant(
        "study/statistics.py",
        "test_study_statistics.py",
        "return quantile * spread / math.sqrt(count)",
        "return quantile * spread / math.sqrt(count - 1)",
    ),
    Mutant(
        "study/study.py",
        "test_comparison.py",
        "dataclasses.replace(self.recipe, seed=seed, **changed)",
        "dataclasses.replace(self.recipe, **changed)",
    ),
    Mutant(
        "study/cell.py",
        "test_study.py",
        "    if over:\n",
        "    if not over:\n",
    ),
    Mutant(
        "study/run.py",
        "test_study.py",
        "        if len(failures) < len(outcomes):",
        "        if failures:",
    ),
    Mutant(
        "comparison.py",
        "test_comparison.py",
        "for k, v in (options | chosen).items()",
        "for k, v in options.items()",
    ),
    Mutant(
        "ablation.py",
        "test_ablation.py",
        "differences = [error - other for error, other in pairs]",
        "differences = [other - error for error, other in pairs]",
    ),
    Mutant(
        "data/records.py",
        "test_data_arrays.py",
        "np.random.default_rng(0), np.random",
        "np.random.default_rng(seed), np.random",
    ),
    Mutant(
        "tuning/results.py",
        "test_tuning_searching.py",
        "-trial.val_accuracy,",
        "trial.val_accuracy,",
    ),
    Mutant(
        "tuning/results.py",
        "test_tuning_confirmation.py",
        "key=lambda row: row.compared.validation_accuracy,",
        "key=lambda row: row.test_accuracy,",
    ),
    # Detection.
    Mutant(
        "detection/evaluation.py",
        "test_detection_evaluation.py",
        '"iscrowd": int(confidence == 0),',
        '"iscrowd": 0,',
    ),
    Mutant(
        "detection/batches.py",
        "test_detection_scenes.py",
        'scale_of(self.size) * objects["box"]',
        'self.size[0] * objects["box"]',
    ),
    # Figures, report, command.
    Mutant(
        "report/page.py",
        "test_report.py",
        "autoescape=True,",
        "autoescape=False,",
    ),
    Mutant(
        "cli/runs.py",
        "test_cli_runs.py",
        '("reduction_ratio", "kernel_size", "order", "identity_init")',
        '("reduction_ratio", "order", "identity_init")',
    ),
    Mutant(
        "explain/cam.py",
        "test_explain_cam.py",
        "(np.arange(length) + 0.5) * (last + 1) / length - 0.5",
        "np.arange(length) * (last + 1) / length",
    ),
    Mutant(
        "explain/pointing.py",
        "test_explain.py",
        "(y_min <= y) & (y < y_max)",
        "(y_min <= y) & (y <= y_max)",
    ),
    Mutant(
        "plotting/maps.py",
        "test_plotting_maps.py",
        "high = max(2, high)",
        "high = max(1, high)",
    ),
)


def apply(mutant: Mutant, copy: pathlib.Path) -> None:
    """Applies a mutant to a copy of the repository."""
    path = copy / "cbam_keras" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"A mutant must change one place. Received: {mutant.file} with "
            f"{text.count(mutant.old)} of {mutant.old!r}"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


def run(copy: pathlib.Path, owner: str) -> tuple[int, float, str]:
    """Returns status, seconds and the end of what pytest prints."""
    start = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", f"tests/{owner}"),
        ],
        cwd=copy,
        # The copy comes before the installed package.
        env={
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    return done.returncode, seconds, (done.stdout + done.stderr)[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of file names")
    words = parser.parse_args().words
    chosen = [
        mutant
        for mutant in MUTANTS
        if not words or any(w in mutant.file + mutant.owner for w in words)
    ]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    missed, clean = [], {}
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "copy"
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        for mutant in chosen:
            apply(mutant, copy)
            status, seconds, tail = run(copy, mutant.owner)
            shutil.copyfile(
                ROOT / "cbam_keras" / mutant.file,
                copy / "cbam_keras" / mutant.file,
            )
            word = {CAUGHT: "caught", PASSED: "MISSED"}.get(status, "BROKEN")
            if status == CAUGHT and mutant.owner not in clean:
                clean[mutant.owner] = run(copy, mutant.owner)
            if status == CAUGHT and clean[mutant.owner][0] != PASSED:
                word, tail = "UNPROVED", clean[mutant.owner][2]
            print(
                f"{word:8} {seconds:5.0f} s  {mutant.file}: {mutant.new!r} "
                f"({mutant.owner})",
                flush=True,
            )
            if word != "caught":
                missed.append(mutant)
                print(tail, flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
