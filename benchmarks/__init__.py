"""Speed and memory of the layers, measured in a clone.

`python -m benchmarks --help` describes the whole, and each script runs by
itself too, for example `python -m benchmarks.layers --mode jax`. It prints
tables, and writes them and all numbers to `layers-jax.md` and `.json` in the
output folder. Benchmarks inform and never gate: no test and no check depends
on what they measure.

- `layers`, `networks`, `memory`, `small_network`, `single_image`, `startup`,
  `exports`, `job`: run by `python -m benchmarks`, too.
- `reading`: folders of images and arrays, beside Keras' own reader.
- `insertion`: attention inserted into a trained network.
- `paper`: parameters and multiply-accumulates beside those of the paper.
- `when_it_helps/`: accuracy without and with attention.
- `simulations/`: what studies claim where the truth is known.
- `naive`, `authors`: what our layers are compared with.
- `arguments`, `modes`, `timing`, `results`: what the scripts share.
- `measured`: what was measured, `measured.jsonl`; `measured.md` has what the
  documentation has no room for.
- `tables`: that, in the tables of the pages.
"""

import argparse
import os

from benchmarks import arguments

# The mode of a script selects the backend, before anything imports Keras.
_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_parser.add_argument("--mode")
_mode = _parser.parse_known_args()[0].mode
if _mode in arguments.NETWORK_MODES:
    os.environ["KERAS_BACKEND"] = arguments.backend_of(_mode)
    # Messages of no use here, and all of a GPU's memory taken in advance, so
    # that two frameworks could not be measured in one process.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
