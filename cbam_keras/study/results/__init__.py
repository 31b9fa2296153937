"""Results of what is trained: read, compared, printed and drawn.

- `results`: `Results`: what has been trained, compared.
- `tables`: tables of networks.
- `kept`: what networks predict, in files beside them.
- `predictions`: the same, judged by class.
- `ranking`: networks ranked, as the trials of a search.
- `statistics`: paired differences, their error, power and verdicts.
- `figures/`: figures of results.
"""
