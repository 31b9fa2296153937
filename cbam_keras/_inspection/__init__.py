"""Looking into any Keras model.

- `graph`: its layers and how they are connected.
- `feature_maps`: which tensors are feature maps.
- `heads`: its last layer and activation.
- `hooks`: functions called while it runs.
- `gates`: attention maps as it computes them.
- `images`: images checked against what it takes.
"""

from cbam_keras._inspection.feature_maps import (
    data_formats,
    input_format,
    is_feature_map,
)
from cbam_keras._inspection.gates import (
    float32,
    gates,
    record,
    require_model,
    run,
)
from cbam_keras._inspection.graph import (
    Step,
    as_input,
    calls,
    graphs,
    is_graph,
    made_by,
    operations,
    replay,
    require_graph,
    structure,
    trace,
    within,
)
from cbam_keras._inspection.heads import (
    Head,
    find,
    looks_like_probabilities,
    of,
)
from cbam_keras._inspection.hooks import watching
from cbam_keras._inspection.images import check
