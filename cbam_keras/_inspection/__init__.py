"""Looking into any Keras model.

- `graph`: its calls, shapes and nested models.
- `feature_maps`: which tensors are feature maps, and which axes positions.
- `heads`: the operation that turns logits into probabilities.
- `hooks`: hooks around its layers while it runs.
- `gates`: its attention layers and their maps.
- `images`: whether it takes some images.
- `global_state`: the dtype policy and random states, restored afterwards.
"""

from cbam_keras._inspection.feature_maps import (
    data_formats,
    followed_axes,
    input_format,
    input_positions,
    is_feature_map,
)
from cbam_keras._inspection.gates import (
    attention_layers,
    record_maps,
    require_model,
    run_model,
    to_float32,
)
from cbam_keras._inspection.global_state import (
    dtype_policy,
    same_randomness,
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
