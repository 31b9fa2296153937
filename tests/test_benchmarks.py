"""Benchmarks compare equal computations; their stored tables."""

import numpy as np
import pytest
from layer_checks import built, output, random_input, stored
from networks import without_values

from benchmarks import builders, naive, tables
from cbam_keras import CBAM, models


def test_the_naive_layer_computes_what_ours_does():
    shape = (2, 7, 5, 32)
    ours = built(CBAM(), shape)
    pasted = naive.NaiveCBAM()
    pasted.build(shape)
    channel = ours.channel_attention
    pasted.squeeze.kernel.assign(channel.squeeze_kernel)
    pasted.squeeze.bias.assign(channel.squeeze_bias)
    pasted.excite.kernel.assign(channel.excite_kernel)
    pasted.excite.bias.assign(channel.excite_bias)
    pasted.conv.kernel.assign(ours.spatial_attention.kernel)
    x = random_input(shape)
    np.testing.assert_allclose(output(pasted, x), output(ours, x), atol=1e-5)


@pytest.mark.needs_torch
def test_the_authors_module_computes_our_official_variant():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from benchmarks.authors import AuthorsCBAM

    # What their own code computed; that ours does, too: test_layers_authors.py.
    arrays, weights = stored("official_cbam_c32_r16")
    module = AuthorsCBAM(32).eval()
    for name, value in module.state_dict().items():
        name = name.replace("channel_gate", "ChannelGate")
        name = name.replace("spatial_gate", "SpatialGate.spatial")
        value.copy_(torch.tensor(weights[name]))
    with torch.no_grad():
        y = module(torch.tensor(arrays["input"])).numpy()
    np.testing.assert_allclose(y, arrays["output_f64"], atol=1e-5)


def test_pages_have_the_tables_of_the_files():
    # Run `python -m benchmarks.tables` after a change of the files.
    pages = tables.pages()
    assert pages and {x: x.read_text("utf-8") for x in pages} == pages


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(
            network,
            id=network.code,
            marks=[] if network.size == 32 else pytest.mark.exhaustive,
        )
        for network in builders.NETWORKS
    ],
)
def test_stored_counts_of_builders_are_those_of_the_code(network):
    # Run `python -m benchmarks.builders` after a change of the networks.
    with without_values():
        row = builders.count(network)
    assert row == builders.stored_counts()[network.code]


def test_every_builder_has_a_row():
    names = {network.code.partition("(")[0] for network in builders.NETWORKS}
    assert names == {*models.__all__} - {"pyramid", "preprocess_input"}
