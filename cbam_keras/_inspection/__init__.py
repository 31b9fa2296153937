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
    run_model,
)
from cbam_keras._inspection.graph import (
    Step,
    as_input,
    calls,
    graphs,
    is_graph,
    layers_within,
    operations,
    producer_of,
    replay,
    require_graph,
    structure,
    trace,
)
from cbam_keras._inspection.heads import (
    Head,
    find_head,
    head_of,
    looks_like_probabilities,
)
from cbam_keras._inspection.hooks import hooked
from cbam_keras._inspection.images import check_images, number_array
