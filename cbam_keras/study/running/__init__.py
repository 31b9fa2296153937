"""How it is trained: the queue of networks, checkpoints, processes.

- `run`: `run`, which trains what is missing, and `estimate`, which counts it.
- `options`: `RunOptions`: where, by what and for whom it is run.
- `estimate`: what a study will train, counted, and the seeds it needs.
- `folder`: the output folder, its locks and settings.
- `queue`: the loop that trains the networks of a folder.
- `trainer`: `train_network`: one variant with one seed.
- `networks`: networks built, checked and compiled.
- `checkpoints`: the state of a training, saved after each epoch.
- `outcomes`: `Outcome`: how a training ended.
- `memory`: what trained networks leave in memory, freed.
- `workers`: processes that train what is missing, kept alive.
- `worker`: the program that such a process runs.
- `machine`: the part of this machine that a worker gets.
- `interrupts`: how Ctrl-C and SIGTERM end a run.
"""
