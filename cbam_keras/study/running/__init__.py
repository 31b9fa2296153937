"""How it is trained: networks in their folders.

- `run`: `run`, which trains what is missing, and `estimate`, which counts it.
- `options`: `RunOptions`: where, by what and for whom it is run.
- `estimate`: what a study will train, counted, and the seeds it needs.
- `folder`: the output folder: what was asked for, and what its networks tell.
- `checkpoints`: the folder of a network: its state, saved after each epoch.
- `trainer`: `Training`: one variant with one seed.
- `compiled`: networks that are compiled once for all seeds.
- `frozen`: frozen layers, which run once for each image.
- `memory`: what trained networks leave in memory, freed.
- `workers`: processes that train what is missing, kept alive.
"""
