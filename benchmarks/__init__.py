"""Speed and memory of the layers, measured in a clone.

`python -m benchmarks --help` describes the whole, and each script runs by
itself too, for example `python -m benchmarks.layers --mode jax`. Benchmarks
inform and never gate: no test and no check depends on what they measure.

- `layers`, `networks`, `memory`, `building`, `small_network`, `monitor`,
  `input_pipeline`, `exports`: run by `python -m benchmarks`, too.
- `insertion`: attention inserted into a trained network.
- `when_it_helps`: accuracy without and with attention.
- `naive`, `authors`: what our layers are compared with.
- `arguments`, `modes`, `timing`, `results`: what the scripts share.
- `measured.md`, `exports.md`: results that the documentation has no room for.
"""
