"""One-line bugs that the tests must notice; run on demand.

    python tests/mutants.py                # all, and a summary
    python tests/mutants.py rows insertion # those whose file matches a word

Each is applied to a copy of the package, and the test file that owns the fact
runs on it, as `python -m pytest` does. It is caught if a test fails there and
the same file passes on the unchanged package.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PASSED = 0
# By the exit status of pytest.
WORDS = {PASSED: "MISSED", 1: "caught"}


class Mutant(NamedTuple):
    """A bug: the file in `cbam_keras`, its owner in `tests`, the change."""

    file: str
    owner: str
    old: str
    new: str


# The lines after a file and its owner replace, with "+", those with "-".
MUTANTS = r"""
layers/channel_attention.py layers_formulas
- 1, (2 * channels + ratio) // (2 * ratio)
+ 1, channels // ratio
- None if bias is None else len(pooled) * bias
+ bias
- return x if bias is None else x + ops.cast(bias, x.dtype)
+ return x
layers/spatial_attention.py layers_formulas
- momentum=0.99,
+ momentum=0.9,
layers/spatial_attention.py layers
- last=not self.use_batch_norm,
+ last=True,
layers/spatial_attention.py layers_masks
- ops.where(count > 0, mean, self.moving_mean.value),
+ mean,
layers/spatial_attention.py fused
- ops.square(inputs - mean)
+ ops.square(inputs - ops.stop_gradient(mean))
layers/cbam.py layers_formulas
- return gates[::-1] if self.order == "spatial_first" else gates
+ return gates
layers/cbam.py layers_cbam
- "spatial_pool_types": ("max", "avg"),
+ "spatial_pool_types": ("avg", "max"),
layers/attention_layer.py layers
- "identity_init": self.identity_init,
+ "identity_init": False,
- if not isinstance(inputs, keras.KerasTensor):
+ if True:
- gate = gate * self._gate_scale
+ gate = gate * 1.0
- return "float64" if self.compute_dtype == "float64" else "float32"
+ return self.compute_dtype
- autocast=False,
+ autocast=True,
layers/attention_layer.py layers_arguments
- if among_others.shape != PROBE.shape or not np.allclose(
+ if among_others.shape != PROBE.shape or np.allclose(
- return round(1 / value)
+ return int(value)
layers/attention_layer.py layers_saving
- lacks = mine is None or inspect.isroutine(mine)
+ lacks = False
layers/cbam.py layers
- return maps[MAPS.index(map_only)]
+ return maps[0]
layers/factory.py layers_factory
- if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
+ if True:
layers/squeeze_excite.py layers_saving
- register_keras_serializable(package="cbam_keras")
+ register_keras_serializable(package="cbam")
layers/pools.py layers_masks
- fill = -1e38
+ fill = -1e3
- return ops.where(count > 0, pooled, ops.zeros_like(pooled))
+ return pooled
layers/pools.py layers
- reduce = ops.sum if x.shape[0] == 0 else ops.amax
+ reduce = ops.amax
layers/pools.py layers_formulas
- return ops.sqrt(total + empty) - empty
+ return ops.sqrt(total)
_fused/operation.py fused
- (to_dx if self.parallel else to_dp).append(dpools2)
+ to_dp.append(dpools2)
_fused/operation.py fused_layers
- variable.assign(value)
+ variable.assign(variable)
_fused/tensorflow_passes.py fused
- index == pools.argmax, pools.max, zero
+ index == pools.argmax, 0 * pools.max, zero
_fused/tensorflow_passes.py layers
- if maps.shape[0] == 0:
+ if False:
_fused/rows.py fused
- rows = ops.pad(rows, ((0, 0), (margin, margin)
+ rows = ops.pad(rows, ((0, 0), (margin, 0)
_inspection/steps.py insertion_insert
- channels |= self._expected
+ pass
- return -1 if place == len(order) - 1 else place
+ return axis
_inspection/steps.py insertion_candidates
- times += isinstance(operation, layers.TimeDistributed)
+ times += 0
- if any(_is_permuted(x, y) for x in step.inputs):
+ if False:
insertion/copying.py insertion_copying
- copy.trainable = inner.trainable
+ copy.trainable = True
insertion/candidates.py insertion_insert
- changes["identity_init"] = True
+ changes["identity_init"] = False
- if type(layer).build is not layers.Layer.build:
+ if True:
insertion/candidates.py insertion_candidates
- if shapes != [place.shape]:
+ if not shapes:
- if taken or wrapped or not places:
+ if taken or not places:
monitor.py monitor
- if len(inputs) == 1 or not keras.tree.is_nested(self.batch):
+ if len(inputs) == 1:
_inspection/global_state.py explain_cam
- values = {"_remat_mode": None, **values}
+ values = {**values}
_inspection/gates.py monitor
- if not model.built:
+ if False:
insertion/default_places.py insertion_default_places
- while self._is_skipped(step) and len(step.inputs) == 1:
+ while False:
- for x, count in sides if count > fewest
+ for x, count in sides if count == fewest
convert/matching.py convert_loading
- value = value[..., self.maps, :]
+ value = value[..., sorted(self.maps), :]
convert/matching.py convert_errors
- return shape == self.shape + (1,) * ones
+ return np.prod(shape) == np.prod(self.shape)
- and f"{block}_attention" not in ours
+ and True
convert/torch_files.py convert_torch_files
- if len(clean) < len(names):
+ if False:
- for holder in HOLDERS:
+ for holder in HOLDERS[::-1]:
- wide = "float64" if kind.endswith("float64") else "float32"
+ wide = "float32"
convert/loading.py convert_errors
- unused = set(report.unused) - CLASSIFIER
+ unused = set()
models/blocks.py models_resnet
- if stride == 1 or padding == "same":
+ if stride >= 1:
- x = attend(x, attention, name=f"{name}_attention")
+ shortcut = attend(shortcut, attention, name=f"{name}_attention")
- layers.ZeroPadding2D(1, name="stem_pool_pad")
+ layers.ZeroPadding2D(((0, 2), (0, 2)), name="stem_pool_pad")
- stride=stride, name="stem_conv")
+ stride=stride, name="stem_conv", padding="same")
- mode="fan_out", distribution="untruncated_normal"
+ mode="fan_in", distribution="untruncated_normal"
- distribution="untruncated_normal"
+ distribution="truncated_normal"
models/assembly.py models_resnet
- kernel_initializer="he_normal",
+ kernel_initializer="glorot_uniform",
- "strided": 64}
+ "strided": 32}
models/efficientnet.py models_efficientnet
- name="stem_conv", padding="same")
+ name="stem_conv")
- name=f"{name}_conv2", padding="same"
+ name=f"{name}_conv2"
models/by_name.py comparison
- max(images.image_shape) > 96
+ max(images.image_shape) > 64
models/weights.py models_weights
-     "order",
+     "padding",
-     "gate_activation",
+     "padding",
- if any(isinstance(layer, AttentionLayer) for layer in model.layers):
+ if True:
optimizers.py recipes
- config.update(momentum=self.momentum, l2_decay=self.l2_decay)
+ config.update(l2_decay=self.l2_decay)
_files.py files
- raise InUse(path) from None
+ return
- token = secrets.token_hex(4)
+ token = "0123abcd"
-             if error.errno not in NO_LOCKS:
+             if error.errno:
_files.py resuming
- os.fsync(file.fileno())
+ pass
- _write_names(path.parent)
+ pass
study/folder.py output_folders
-         if foreign:
+         if not foreign:
- for path in self.path.rglob(f"{CELLS}/*.lock"):
+ for path in self.path.glob(f"{CELLS}/*.lock"):
- names |= {*content["settings"]["variants"]}
+ pass
- with contextlib.suppress(_files.InUse), _files.locked(lock):
+ with contextlib.nullcontext():
- _files.delete_unfinished(self.path)
+ pass
study/folder.py resuming
- cell["file"] = name
+ pass
- if cell["file"] and _files.is_torn(
+ if not cell["file"] and _files.is_torn(
-         if changed:
-             raise ValueError(
+         if not changed:
+             raise ValueError(
study/folder.py study
- if cell["status"] not in RETRIED
+ if True
study/cell.py resuming
- if _files.is_torn(best):
+ if False:
- load = checkpoints.load_best if is_finished else checkpoints.load_latest
+ load = checkpoints.load_latest
study/checkpoints.py training
- key=lambda row: (row["val_accuracy"], -row["val_loss"])
+ key=lambda row: (row["val_accuracy"], row["val_loss"])
- if path.name not in (state.latest, state.best):
+ if path.name != state.latest:
- variable.assign(value)
+ variable.assign(variable)
study/checkpoints.py study_tasks
- _seed_generators(self.seed, epoch)
+ _seed_generators(self.seed, 0)
study/cell.py study_tasks
- with same_names(), gradients_forgotten():
+ with gradients_forgotten():
- gc.collect()
+ keras.utils.clear_session()
- array.dtype.kind in "iuf"
+ array.dtype.kind in "biuf"
study/run.py study_tasks
- self.error = error.with_traceback(None)
+ self.error = error
study/networks.py study_networks
- keras.utils.set_random_seed(recipe.seed)
+ keras.utils.set_random_seed(0)
- return [places[str(value[0])], *value[1:]]
+ return list(value)
- left_out = ("name", *USED) if is_layer else USED
+ left_out = USED
- is_layer = "trainable" in value or str(value.get("name")) in places
+ is_layer = True
- known = _without_names([config, built, shapes], places)
+ known = _without_names([config, shapes], places)
study/outcomes.py study_statistics
- own[x] - baseline[x] for x in own
+ baseline[x] - own[x] for x in own
study/outcomes.py study
- guess = 1 / description["classes"]
+ guess = 0.0
study/outcomes.py ablation
- round((1 - value) * images) / images
+ 1 - value
- least = len(self.seeds) if comparison.every_seed else 1
+ least = 1
- kept = {comparison.baseline, *measured} if measured else ()
+ kept = {*measured} if measured else ()
- return (compared and self.unlearned()) or said
+ return said
- (row.network, comparison.baseline): (row.label, row)
+ (row.network, comparison.number): (row.label, row)
study/results.py study
- ends = [start + 100 * end
+ ends = [means[place] - 100 * row.difference + 100 * end
- ends = row.interval if row.pairs > 1 else None
+ ends = row.interval
study/statistics.py study_statistics
- quantile * statistics.stdev(differences) / math.sqrt(count)
+ quantile * statistics.stdev(differences) / math.sqrt(count - 1)
- half = reach(differences, drawn)
+ half = reach(differences, drawn / math.sqrt(len(differences)))
- if half > ROUNDING else None
+ if half > 0 else None
- max(less**2 - (Z * shared) ** 2, 0)
+ less**2
- if highest > luck:
+ if highest > guess:
- if any(measured.pairs > 1 for measured in others.values()):
+ if all(measured.pairs > 1 for measured in others.values()):
- if low <= 0 <= high:
+ if low <= 0 and high < 0:
study/study.py comparison
- dataclasses.replace(recipe, seed=seed, learning_rate=rate)
+ dataclasses.replace(recipe, learning_rate=rate)
study/study.py study
- len(os.fsencode(name)) > MAX_NAME
+ len(name) > MAX_NAME
study/folder.py study
- parse_constant=functools.partial(_refuse, text)
+ parse_constant=float
study/cell.py study
-     if over:
+     if not over:
- if not math.isfinite(row.get("val_loss", 0)):
+ if False:
- known[key] > limit
+ known[key] >= limit
- ("RESOURCE_EXHAUSTED", "can't allocate memory")
+ ("RESOURCE_EXHAUSTED",)
study/estimate.py study_estimate
- seconds_per_epoch = step * len(data.train)
+ seconds_per_epoch = step * data.batch_size
study/run.py output_folders
-             self.folder.refresh()
-             if self.folder
+             if self.folder
study/run.py study
- folder.add_settings("data", str(seed), data.describe())
+ pass
-         if results.runs:
+         if failures:
comparison.py comparison
- for k, v in (options | chosen).items()
+ for k, v in options.items()
data/loading.py data_loading
- int(np.bincount(examples.labels).max())
+ int(np.bincount(examples.labels).min())
auditing.py auditing
- TOLERANCE = 2e-3
+ TOLERANCE = 2e-5
- 4: (2, 3, 1, 0)}
+ 4: (0, 1, 2, 3)}
- difference = found if found < difference else difference
+ difference = found
- return self.variable.trainable, self.value.squeeze().shape
+ return self.variable.trainable, self.value.shape
- is_possible = difference < ratio or "reduction_ratio" not in options
+ is_possible = True
- has_other_width = "hidden_units" in match.options
+ has_other_width = False
- x += np.linspace(-3, 3, BATCH).reshape(-1, 1, 1, 1)
+ x += 3
- return np.moveaxis(y, 1, -1) if self.channels_first else y
+ return y
- counts += [x for x in numbers if type(x) is int and x > 1]
+ pass
- if "dtype" in config:
+ if False:
data/splits.py data_arrays
- max(0, len(indices) - 2)
+ len(indices)
data/splits.py data_folder
- fraction = None if "validation" in splits else validation_fraction
+ fraction = validation_fraction
data/sources.py data_folder
- name not in EMBEDDED and data_dir is None and
+ data_dir is None and
data/sources.py data_arrays
- or labels.max() >= count
+ 
data/loading.py data_tfds
- os.path.abspath(os.path.expanduser(folder))
+ str(folder)
_explanations/explanation.py explain_explaining
- len(images.folders) == classes > 1
+ len(images.folders) > 1
_explanations/tables.py explain_explaining
- not in (None, predicted)
+ != predicted
data/splits.py data_arrays
- np.random.default_rng(0), np.random
+ np.random.default_rng(seed), np.random
data/splits.py data_tfds
- round(validation_fraction * (count - tested))
+ round(validation_fraction * count)
data/tfds.py data_tfds
- channels=channels or 3,
+ channels=3,
data/decoding.py data_arrays
- dtype = examples.images.dtype if examples.decoded else "uint8"
+ dtype = "uint8"
data/decoding.py data_folder
- TURNED = range(5, 9)
+ TURNED = range(5, 8)
- image.format == "PNG" and b"eXIf" in end
+ False
- if image.format == "BMP":
+ if False:
- sha256(start + end)
+ sha256(start)
- described.append((name, head.content))
+ described.append(head.content)
data/memory.py data_folder
- return min(found)
+ return found[0]
- needed = kept + BATCHES
+ needed = BATCHES
data/tfds.py data_tfds
- content += [encoded, int(class_index)]
+ content += [int(class_index)]
detection/loading.py detection_sources
- content += examples.contents
+ content += ()
_checks.py comparison
- if name in kwargs:
+ if False:
_explanations/networks.py explain_runs
- for key in LOCATION if key in source
+ for key in source
_explanations/explanation.py explain_runs
- _check_output(output)
+ _files.output_folder(output)
- study.REPORT, ".*")
+ study.REPORT)
data/sources.py explain_runs
- for name in RECORDS
+ for name in ()
study/content.py study
- "history": [{...: numbers.Real}],
+ "history": [dict],
- if not held:
+ if False:
_explanations/images.py explain_runs
- and not ours & {*file.parents}
+ and True
_explanations/images.py explain_images
- is_given & {*damaged}
+ False
data/batches.py data_batches
- if self.share and self.seed is None:
+ if self.share:
- self._generator(epoch, 0, ORDER)
+ self._generator(epoch, 0, FLIP_AND_CROP)
- self.examples.read(row)
+ self.examples.read(position)
tuning/results.py tuning_searching
- -trial.val_accuracy,
+ trial.val_accuracy,
tuning/results.py tuning_confirmation
- unlearned = trained.unlearned()
+ unlearned = ""
- key=lambda row: row.compared.validation_accuracy)
+ key=lambda row: row.test_accuracy)
detection/evaluation.py detection_evaluation
- "iscrowd": int(confidence == 0),
+ "iscrowd": 0,
detection/batches.py detection_scenes
- scale_of(self.size) * moved[number]
+ self.size[0] * moved[number]
- (boxes - [left, top, left, top]) / side
+ boxes - [left, top, left, top]
report/page.py report
- autoescape=True,
+ autoescape=False,
cli/arguments.py cli_audit
- if ":" in kind and not (module and attribute):
+ if False:
cli/tables.py cli_command
- json.dumps(rows, indent=1)
+ json.dumps([], indent=1)
- rows = counted(options.names)
+ rows = counted([])
cli/tools.py cli_audit
- if name.endswith(".keras"):
+ if False:
- departures |= bool(result.departures)
+ departures = bool(result.departures)
cli/command.py cli_command
- if not _is_stdout_full():
+ if True:
- message = _terminal.readable(message)
+ message = str(message)
_terminal.py cli_command
- print(readable(text), file=file, flush=True)
+ print(text, file=file, flush=True)
cli/options.py cli_command
- if "" in (value if isinstance(value, list) else [value]):
+ if False:
_checks.py cli_runs
- if value > most:
+ if False:
- return positive_integer(name, value)
+ return int(value)
_files.py cli_runs
- folder.exists()
+ pass
comparison.py cli_runs
- if name in ATTENTION:
+ if True:
cli/arguments.py cli_runs
- if not is_name or name.count
+ if name.count
- or f"--no-{option}" in given
+ 
- word.partition("=")[0]
+ word
tuning/hypermodel.py cli_runs
- if not {*kinds} & {*self.layers}
+ if False
_explanations/explanation.py cli_explain
- {"split": settings.split, **data_options}
+ data_options
cli/runs.py cli_runs
- ("reduction_ratio", "kernel_size", "order", "identity_init")
+ ("reduction_ratio", "order", "identity_init")
_checks.py explain_cam
- kwargs[name] = kwargs.pop(former)
+ kwargs.pop(former)
_inspection/gates.py explain_attention
- if kwargs.get("map_only"):
+ if False:
explain/cam.py explain_cam
- (np.arange(length) + 0.5) * count / length - 0.5
+ np.arange(length) * count / length
explain/pointing.py explain
- (y_min <= y) & (y < y_max)
+ (y_min <= y) & (y <= y_max)
plotting/search.py plotting
- if not any({KERNEL, RATIO} <= {*trial.values} for trial in finished):
+ if False:
- means[rows.index(row), columns.index(column)] = _mean(trials_of_cell)
+ means[rows.index(row), columns.index(column)] = 50.0
plotting/maps.py plotting_maps
- high = max(2, high)
+ high = max(1, high)
tuning/tuner.py tuning_workers
- if free:
+ if free and not running:
tuning/tuner.py output_folders
- folder.tidy((cell.network, cell.seed) for cell in trials.all())
+ folder.tidy((cell.variant.name, cell.seed) for cell in trials.all())
tuning/space.py tuning_trials
- np.float32(values[name]):.6g
+ np.float32(values[name]):.3g
tuning/search.py tuning_errors
- folder.retry()
+ pass
- if folder.content.get("searched", -1) >= most:
+ if False:
tuning/space.py tuning_searching
- name.encode()[:MAX_NAME].decode(errors="ignore")
+ name[:MAX_NAME]
study/workers.py study_workers
- if not (is_dead and self.folder.note_death(str(error))):
+ if not is_dead:
- os.sched_setaffinity(0, cores)
+ pass
- if self.failures == MAX_FAILURES:
+ if self.failures:
study/workers.py tuning_workers
- missing = len(self.cells.missing())
+ missing = 1
study/cells.py resuming
- if len(ends) < MAX_TRIES:
+ if True:
study/cells.py output_folders
- if self.folder.outcome(*cell.key) is None:
+ if True:
study/cells.py tuning_trials
- epochs=cell.epochs,
+ epochs=None,
study/checkpoints.py resuming
- forget_tries(folder)
+ pass
study/folder.py resuming
- forget_tries(cell)
+ pass
study/folder.py study_workers
- return any([end_try(cell, how) for cell in self._left()])
+ return False
study/workers.py process
- children.end()
+ pass
study/worker.py study_workers
- if versions != VERSIONS:
+ if not versions:
- if is_its_work or idle > SECONDS_IDLE:
+ if idle > SECONDS_IDLE:
- cells.give_back()
+ pass
../_cbam_keras_worker.py study_workers
- "-P", "-c"
+ "-c"
- del last[:-MAX_BYTES]
+ pass
"""


def parsed() -> Iterator[Mutant]:
    """Yields the mutants of the text."""
    changes = re.compile(r"((?:- .*\n)+)((?:\+ .*\n)+)")
    for head, lines in re.findall(r"(.+)\n((?:[-+] .*\n)+)", MUTANTS):
        file, owner = head.split()
        for change in changes.findall(lines):
            old, new = (re.sub("(?m)^[-+] ", "", side) for side in change)
            yield Mutant(file, f"test_{owner}.py", old[:-1], new[:-1])


def run(copy: pathlib.Path, owner: str) -> subprocess.CompletedProcess:
    """Runs a test file on the copy, in place of the installed package."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", f"tests/{owner}"),
        ],
        cwd=copy,
        # A mutant may be as old and as long as what it replaces.
        env=os.environ
        | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of file names")
    words = parser.parse_args().words
    chosen = [
        mutant
        for mutant in parsed()
        if not words or any(w in mutant.file + mutant.owner for w in words)
    ]
    missed = 0
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=ignored)
        owners = {mutant.owner for mutant in chosen}
        clean = {owner: run(copy, owner) for owner in owners}
        for mutant in chosen:
            path = copy / "cbam_keras" / mutant.file
            text = path.read_text()
            if text.count(mutant.old) != 1:
                raise SystemExit(f"This must be in one place: {mutant}")
            path.write_text(text.replace(mutant.old, mutant.new))
            done = run(copy, mutant.owner)
            path.write_text(text)
            word = WORDS.get(done.returncode, "BROKEN")
            if clean[mutant.owner].returncode != PASSED:
                word, done = "UNPROVED", clean[mutant.owner]
            print(f"{word:8} {mutant.file}: {mutant.new!r} ({mutant.owner})")
            if word != "caught":
                missed += 1
                print(done.stdout[-2000:], flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
