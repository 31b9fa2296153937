"""What `load_torch_weights` refuses, and the advice that it gives."""

import functools
import os
import pickle
import re

import keras
import numpy as np
import pytest
from convert_checks import (
    CHECKPOINT,
    OFFICIAL,
    attention_weights,
    error_of,
    official_weights,
    tiny_network,
    tiny_weights,
    write,
)
from layer_checks import stored

from cbam_keras import (
    CBAM,
    VARIANTS,
    ChannelAttention,
    SpatialAttention,
    SqueezeExcite,
    models,
)
from cbam_keras.convert import load_torch_weights
from cbam_keras.insertion import insert_attention
from cbam_keras.models import blocks

MISFITS = {
    "missing": (
        lambda: tiny_network(),
        lambda: {k: v for k, v in tiny_weights().items() if k != "bn1.bias"},
        'Missing (1): "bn1.bias". Unused (0). Of another shape (0). Received: '
        "source=<a mapping of 21 entries>.",
    ),
    "unused": (
        lambda: tiny_network(),
        lambda: tiny_weights(extra=np.zeros(1)),
        'Missing (0). Unused (1): "extra". Of another shape (0).',
    ),
    "attention in the file alone": (
        lambda: tiny_network(),
        lambda: tiny_weights() | attention_weights(),
        "The source has attention weights and the model has none: build it "
        'with attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "attention in the model alone": (
        lambda: tiny_network("cbam"),
        tiny_weights,
        "The source has no attention weights: build the model with "
        "attention=None and call `insert_attention` afterwards.",
    ),
    "the paper's variant": (
        lambda: tiny_network("cbam"),
        lambda: tiny_weights() | attention_weights(),
        "The source has another attention: build the model with "
        'attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "timm": (
        lambda: tiny_network("cbam"),
        lambda: (
            tiny_weights()
            | {
                f"layer1.0.se.{name}": value
                for name, value in stored("timm_cbam_c64")[1].items()
            }
        ),
        'attention=functools.partial(CBAM, **VARIANTS["timm"]).',
    ),
    "squeeze-and-excitation": (
        lambda: tiny_network("cbam"),
        lambda: (
            tiny_weights()
            | {
                "layer1.0.se.fc1.weight": np.zeros((1, 16)),
                "layer1.0.se.fc1.bias": np.zeros(1),
                "layer1.0.se.fc2.weight": np.zeros((16, 1)),
                "layer1.0.se.fc2.bias": np.zeros(16),
            }
        ),
        'attention="se".',
    ),
    "maps of other kinds": (
        lambda: tiny_network(
            functools.partial(
                CBAM,
                spatial_pool_types=("avg", "lse"),
                spatial_batch_norm=True,
            )
        ),
        lambda: tiny_weights() | attention_weights(),
        'attention=functools.partial(CBAM, **VARIANTS["official"]).',
    ),
    "a learned map": (
        lambda: tiny_network(
            functools.partial(
                CBAM, spatial_pool_types="conv", spatial_batch_norm=True
            )
        ),
        lambda: tiny_weights() | attention_weights(),
        'Missing (2): "stage1_block1_attention/spatial_attention/kernel", '
        '"stage1_block1_attention/spatial_attention/pool_kernel".',
    ),
    "classes": (
        lambda: tiny_network(classes=7),
        tiny_weights,
        "The source has 5 classes: build the model with classes=5, or leave "
        "the classifier out with include_top=False or as it is with "
        "strict=False.",
    ),
    "depth": (
        lambda: tiny_network(depths=(2,)),
        tiny_weights,
        "The source is a network of basic blocks (1), the model one of basic "
        "blocks (2).",
    ),
    "block": (
        lambda: tiny_network(block="bottleneck"),
        tiny_weights,
        "The source is a network of basic blocks (1), the model one of "
        "bottleneck blocks (1).",
    ),
    "reduction ratio": (
        lambda: tiny_network(functools.partial(OFFICIAL, 8)),
        lambda: tiny_weights() | attention_weights(),
        "The source has other hidden widths: build with reduction_ratio=16.",
    ),
    "kernel size": (
        lambda: tiny_network(functools.partial(OFFICIAL, kernel_size=3)),
        lambda: tiny_weights() | attention_weights(),
        "The source has kernel_size=7.",
    ),
    "stem": (
        lambda: tiny_network(stem="imagenet"),
        tiny_weights,
        'The source has most likely stem="small".',
    ),
    "input channels": (
        lambda: tiny_network(input_shape=(8, 8, 1)),
        tiny_weights,
        "The source takes images of 3 channels to stem_width=8.",
    ),
    "another network": (
        lambda: tiny_network(),
        lambda: {"features.0.weight": np.zeros((8, 3, 3, 3))},
        "The source has none of the names of a residual network, as "
        '"conv1.weight".',
    ),
    "a network into a block": (
        lambda: single_block(),
        tiny_weights,
        "The source is a network of basic blocks (1), the model a single "
        "block.",
    ),
    "a module into the paper's layer": (
        lambda: CBAM(),
        official_weights,
        'The source is of CBAM(**VARIANTS["official"]).',
    ),
    "a gate with biases": (
        lambda: ChannelAttention(use_bias=False),
        lambda: {"mlp.1.weight": np.zeros((1, 8)), "mlp.1.bias": np.zeros(1)},
        "The source is of ChannelAttention(use_bias=True).",
    ),
    "a spatial gate": (
        lambda: built_spatial(),
        lambda: official_weights("spatial_k7"),
        "The source is of SpatialAttention(pool_types=('max', 'avg'), "
        "batch_norm=True).",
    ),
    "the hidden width of a layer": (
        lambda: OFFICIAL(),
        lambda: attention_weights("", channels=20, hidden=3),
        "The source has other hidden widths: build with hidden_units=3.",
    ),
    "a network into a layer": (
        lambda: CBAM(),
        lambda: attention_weights("layer1.0.cbam."),
        "Of a network, pass the entries of one module, without what precedes "
        'these names, as "layer1.0.cbam.".',
    ),
    "no module": (
        lambda: SqueezeExcite(),
        tiny_weights,
        'Received: the names "conv1.weight", "layer1.0.conv1.weight", ',
    ),
    "an unbuilt spatial gate": (
        lambda: SpatialAttention(data_format="channels_first"),
        lambda: official_weights("spatial_k7"),
        "its weights do not tell the number of channels C. Build it first: "
        "layer.build((None, C, None, None))",
    ),
    "an empty mapping": (
        lambda: tiny_network(),
        lambda: {},
        "in which there is nothing",
    ),
    "a checkpoint without weights": (
        lambda: tiny_network(),
        lambda: {"epoch": 3, "optimizer": {"lr": 0.1}},
        'a mapping with the keys "epoch" (int), "optimizer" (dict)',
    ),
    "the same names twice": (
        lambda: tiny_network(),
        lambda: {"fc.bias": np.zeros(5), "module.fc.bias": np.zeros(5)},
        "in which names are the same but for wrappers",
    ),
    "a network of ours without a counterpart": (
        lambda: models.MobileNet(alpha=0.25, input_shape=(32, 32, 3)),
        tiny_weights,
        'Unknown (55): "stem_conv", "stem_bn", "stage1_block1_conv1", ... '
        "Load the weights before",
    ),
    "attention in another place": (
        lambda: insert_attention(
            tiny_network(), OFFICIAL, "stem_relu", identity=False
        ),
        lambda: tiny_weights() | attention_weights(),
        'Unknown (1): "stem_relu_attention".',
    ),
    "attention twice": (
        lambda: insert_attention(
            tiny_network("se"), "se", "block1_bn2", identity=False
        ),
        tiny_weights,
        'Unknown (1): "stage1_block1_bn2_attention".',
    ),
    "attention of others": (
        lambda: tiny_network(keras.layers.LayerNormalization),
        tiny_weights,
        'Unknown (1): "stage1_block1_attention".',
    ),
    "a network of Keras": (
        lambda: keras.applications.MobileNet(
            weights=None, input_shape=(32, 32, 3), alpha=0.25
        ),
        tiny_weights,
        'Unknown (55): "conv1", "conv1_bn", "conv_dw_1", ...',
    ),
    "a layer of Keras": (
        lambda: keras.layers.Dense(2, name="own"),
        tiny_weights,
        "`model_or_layer` must be a residual network of cbam_keras.models, or "
        "a CBAM, ChannelAttention, SpatialAttention or SqueezeExcite layer. "
        'Received: Dense layer "own"',
    ),
}


def single_block():
    inputs = keras.Input((8, 8, 16))
    return keras.Model(inputs, blocks.basic_block(inputs, 16, name="block"))


def built_spatial():
    layer = SpatialAttention()
    layer.build((None, None, None, 16))
    return layer


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_explained(case):
    build, weights, expected = MISFITS[case]
    target = build()
    built = target.built
    assert expected in error_of(target, weights())
    assert target.built == built


def test_widths_that_differ_by_stage_are_listed():
    pytest.importorskip("torch", reason="PyTorch makes the weights")
    import torch_reference

    options = {"depths": (1, 1), "widths": (64, 128)}
    network = torch_reference.ResNet(**options, se=(8, 8), classes=5)
    model = models.ResNet(
        **options, block="basic", stem_width=8, classes=5, attention="se"
    )
    message = error_of(model, network.state_dict())
    assert message.endswith(
        'build with attention=[SqueezeExcite(hidden_units=8), "se"].'
    )


def test_nothing_that_fits_is_an_error_without_strict():
    message = error_of(
        tiny_network(), {"features.0.weight": np.zeros(3)}, strict=False
    )
    assert 'Unused (1): "features.0.weight"' in message


@pytest.mark.parametrize(
    "weight, kind",
    [
        (np.zeros(5, "int64"), "int64"),
        (np.zeros(5, bool), "bool"),
        (np.zeros(5, "complex64"), "complex64"),
        ([0.0] * 5, "list"),
    ],
    ids=["integers", "booleans", "complex", "list"],
)
def test_weights_are_real_numbers(weight, kind):
    message = error_of(tiny_network(), tiny_weights() | {"fc.bias": weight})
    assert (
        "Weights must be dense floating-point tensors. Received: "
        f'"fc.bias" of kind {kind}.'
    ) in message


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda torch: torch.zeros(5).to_sparse(), "sparse float32"),
        (
            lambda torch: torch.quantize_per_tensor(
                torch.zeros(5), 0.1, 0, torch.qint8
            ),
            "qint8",
        ),
        (
            lambda torch: torch.zeros(5, device="meta"),
            "float32 without values (on the meta device)",
        ),
        (lambda torch: torch.zeros(5, dtype=torch.int32), "int32"),
    ],
    ids=["sparse", "quantized", "meta", "integers"],
)
# PyTorch's own deprecation of quantized tensors.
@pytest.mark.filterwarnings("ignore:.*quant")
def test_tensors_are_dense_and_real(make, kind):
    torch = pytest.importorskip("torch", reason="PyTorch makes the tensors")
    weights = tiny_weights() | {"fc.bias": make(torch)}
    assert f'"fc.bias" of kind {kind}.' in error_of(tiny_network(), weights)


@pytest.mark.parametrize(
    "target, source, message",
    [
        ("model", {}, "`model_or_layer` must be a Keras model or layer"),
        (None, 3, "`source` must be the path of a checkpoint or a mapping"),
        (None, None, "Received: source of type NoneType"),
    ],
)
def test_arguments_of_a_wrong_kind(target, source, message):
    target = CBAM() if target is None else target
    with pytest.raises(TypeError, match=message):
        load_torch_weights(target, source)


def test_a_module_is_asked_for_its_state_dict():
    torch = pytest.importorskip("torch", reason="PyTorch makes the module")
    with pytest.raises(TypeError, match=r"Pass source.state_dict\(\)"):
        load_torch_weights(CBAM(), torch.nn.Linear(2, 2))


def test_strict_is_a_boolean():
    with pytest.raises(TypeError, match="`strict` must be True or False"):
        load_torch_weights(CBAM(), {}, strict=1)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "`source` must be a file that exists"),
        (b"", "which is empty"),
        (b"<html>Not found</html>", "which is a web page. Download the file"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x08" + bytes(7) + b'{"a": 1}', "damaged, cut short"),
        (pickle.dumps({"a": 1}), "damaged, cut short or of another kind"),
    ],
    ids=["absent", "empty", "a web page", "a pointer", "safetensors", "pickle"],
)
def test_a_file_must_be_a_checkpoint(tmp_path, content, message):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    found = error_of(tiny_network(), path)
    assert message in found
    assert f'source="{path}"' in found


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    "name, legacy",
    [("a.pth", False), ("a.pth", True), ("a.safetensors", False)],
    ids=["zip", "legacy", "safetensors"],
)
def test_a_file_cut_short_is_refused(tmp_path, name, legacy, share):
    path = write(tmp_path / name, tiny_weights(), legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged, cut short" in error_of(tiny_network(), path)


class Payload:
    """Runs a command when unpickled by anything that allows it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": {"a": torch.zeros(2)}, "code": Payload(marker)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    message = error_of(tiny_network(), path)
    assert re.search(r"asks for `\w+\.system`", message)
    assert "It was not run." in message
    assert not marker.exists()
    # The payload does work where it is let.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_pickle_with_code_is_not_run(tmp_path):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    marker = tmp_path / "marker"
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    assert "It was not run." in error_of(tiny_network(), path)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
# Of a module pickled whole, PyTorch looks for the source.
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_module_is_refused(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pth"
    torch.save(
        torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=not legacy
    )
    message = error_of(tiny_network(), path)
    assert "asks for `torch.nn.modules.linear.Linear`" in message
    assert "module.state_dict()" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    path = tmp_path / "model.pt"
    torch.jit.save(
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path
    )
    message = error_of(tiny_network(), path)
    assert "a TorchScript program" in message
    assert "torch.jit.load(path)" in message


def test_a_file_of_other_things_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    torch.save([1, 2], tmp_path / "list.pth")
    message = error_of(tiny_network(), tmp_path / "list.pth")
    assert message.endswith("in which there is an object of type list")


def test_strides_in_1x1_convolutions_are_warned_of():
    pytest.importorskip("torch", reason="PyTorch makes the weights")
    import torch_reference

    options = {"depths": (1, 1), "widths": (8, 16), "block": "bottleneck"}
    weights = torch_reference.ResNet(**options).state_dict()
    model = models.ResNet(
        **options, stem_width=8, classes=5, downsample_in="1x1"
    )
    with pytest.warns(UserWarning, match='downsample_in="3x3"') as caught:
        load_torch_weights(model, weights)
    assert '"stage2_block1_conv1"' in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options, listed",
    [
        ({"identity_init": True}, "identity_init=True"),
        ({"order": "parallel"}, "order='parallel'"),
        ({"activation": None}, "activation='linear'"),
        ({"gate_activation": "hard_sigmoid"}, "gate_activation='hard_sigmoid'"),
    ],
    ids=["identity", "order", "activation", "gate"],
)
def test_what_no_checkpoint_computes_is_warned_of(options, listed):
    layer = OFFICIAL(**options, name="gate")
    with pytest.warns(UserWarning, match=f'"gate" has {listed},'):
        load_torch_weights(layer, official_weights())


def test_dilation_is_warned_of():
    layer = SpatialAttention(dilation_rate=2, batch_norm=True)
    layer.build((None, None, None, 16))
    with pytest.warns(UserWarning, match="dilation_rate=2"):
        load_torch_weights(layer, official_weights("spatial_k7"))


@pytest.mark.parametrize("offset, value", [(0, 0), (6, 99), (9, 8)])
def test_a_damaged_archive_is_refused(tmp_path, offset, value):
    pytest.importorskip("torch", reason="PyTorch reads the file")
    content = bytearray(CHECKPOINT.read_bytes())
    # The first entry of the table of contents.
    content[content.find(b"PK\x01\x02") + offset] = value
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    # PyTorch reads some of these all the same, and then they do not fit.
    assert f'Received: source="{path}"' in error_of(tiny_network(), path)


@pytest.mark.parametrize("attention", ["channel", ChannelAttention])
def test_other_pools_than_those_of_timm_are_warned_of(attention):
    names = attention_weights("layer1.0.se.")
    names = {
        f"layer1.0.se.fc{layer}.{kind}": names[
            f"layer1.0.se.ChannelGate.mlp.{number}.{kind}"
        ]
        for layer, number in ((1, 1), (2, 3))
        for kind in ("weight", "bias")
    }
    weights = {**tiny_weights(), **names}
    with pytest.warns(UserWarning, match='attention="se"') as caught:
        load_torch_weights(tiny_network(attention=attention), weights)
    assert caught[0].filename == __file__


def test_the_name_of_the_module_may_come_before_all_names():
    weights = {f"cbam.{k}": v for k, v in official_weights().items()}
    layer = CBAM(**VARIANTS["official"])
    assert len(load_torch_weights(layer, weights).loaded) == 9
    report = load_torch_weights(
        tiny_network(), {f"net.{k}": v for k, v in tiny_weights().items()}
    )
    assert not report.missing


def test_other_widths_are_told():
    wide = np.zeros((24, 8, 3, 3), "float32")
    weights = {**tiny_weights(), "layer1.0.conv1.weight": wide}
    found = error_of(tiny_network(), weights)
    assert "The source has stages of width (24,)." in found


def test_network_within_a_model_is_pointed_at():
    inputs = keras.Input((8, 8, 3))
    network = tiny_network()
    found = error_of(keras.Model(inputs, network(inputs)), tiny_weights())
    assert f'load_torch_weights(model.get_layer("{network.name}")' in found
