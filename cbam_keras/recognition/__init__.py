"""What attention of any model or source computes.

- `reports`: `check`, whether it computes what its name says.
- `formats`: these reports as JSON, and as annotations of GitHub.
- `source`: `check_source`, the same of files of source.
- `gates`: the gates of a model, measured, and what is around them.
- `cuts`: the parts of a network that may be such attention.
- `matching`: the `cbam_keras` layers that compute and train the same.
- `structures`: the `cbam_keras` layers that may have weights of such shapes.
- `probes`: what a part of a network multiplies features by, measured.
- `runs`: what a part gives of features, to compare a layer with it.
- `claims`: what names claim, and whether it is so.
- `departures`: what differs from a paper, as a variant or as a fault.
- `pooling`: which pools a half of CBAM depends on.
- `verdicts`: what can be said of a module, and its state.
"""
