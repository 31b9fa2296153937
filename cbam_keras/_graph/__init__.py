"""Looking into any Keras model.

- `graph`: its graph as Keras records it: nodes, the calls of operations.
- `steps`: the model traced step by step; the axes of its tensors.
- `resolutions`: the last layer at each resolution, and before the head.
- `heads`: logits and probabilities, and the operation between them.
- `gates`: its attention layers and their maps.
- `images`: whether it takes some images.
- `global_state`: the dtype policy and random states, restored afterwards.
"""

from cbam_keras._graph.gates import (
    Maps,
    gate_paths,
    gates_by_name,
    record_maps,
    run_model,
    to_float32,
)
from cbam_keras._graph.global_state import (
    attributes,
    random_states,
    same_randomness,
)
from cbam_keras._graph.graph import (
    Instead,
    Tensor,
    as_input,
    in_order,
    inner_model,
    input_names,
    is_graph,
    last_common,
    layers_within,
    model_per_frame,
    nodes,
    nodes_between,
    origin,
    replay,
    require_model,
    run_nodes,
    structure,
    with_graph,
)
from cbam_keras._graph.heads import (
    as_probabilities,
    find_head,
    find_kind,
    kind_of_head,
    outputs_and_labels,
    without_activation,
)
from cbam_keras._graph.images import (
    ArrayLike,
    Inputs,
    are_initial,
    batches,
    check_inputs,
    describe_range,
    number_array,
)
from cbam_keras._graph.resolutions import (
    ADDITIONS,
    is_coarser,
    last_at_each_resolution,
    last_feature_maps,
    only_adjusts,
)
from cbam_keras._graph.steps import (
    Graph,
    Step,
    is_feature_map,
    trace,
    type_of,
    walk,
)
from cbam_keras.layers._fused.private import global_random_state
