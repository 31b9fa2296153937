"""Fixtures for all tests; `conftest.py` imports them where tests run."""

import functools
import gc
import importlib.util

import digits
import keras
import networks
import pytest

from cbam_keras.cli.command import AT_A_TIME
from cbam_keras.layers._fused import contract


def has_gpu():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import torch

    return torch.cuda.is_available()


def compute_exactly():
    """Lets a GPU compute in float32, as a CPU does, and not in TF32."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


def pytest_configure():
    # What is pretended or counted is in the process of a test.
    AT_A_TIME.clear()
    if has_gpu():
        compute_exactly()


def pytest_collection_modifyitems(items):
    backend = keras.backend.backend()
    skip_marked(items, "gpu", has_gpu, f"the {backend} backend sees no GPU")
    has_torch = functools.partial(importlib.util.find_spec, "torch")
    skip_marked(items, "needs_torch", has_torch, "PyTorch is not installed")


def skip_marked(items, marker, is_available, reason):
    """Skips the tests with a marker unless what they need is available."""
    marked = [item for item in items if item.get_closest_marker(marker)]
    if marked and not is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    # Names of layers are then counted from the start, whatever was collected.
    keras.utils.clear_session(free_memory=False)
    # Garbage collections then pass over all modules and tests.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def kept_kernels():
    """Lets TensorFlow keep the kernels of operations from test to test.

    Each new seed and each cleared session deletes them, because TensorFlow's
    own random operations have a state, which those of Keras have not. Making
    them anew takes a fifth of the time of the tests. The next file starts
    without them.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from tensorflow.python import pywrap_tfe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pywrap_tfe, "TFE_ContextClearCaches", lambda _: None)
        yield
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def passes_at_any_size(monkeypatch):
    """Lets small features take the passes, too."""
    monkeypatch.setattr(contract, "SMALL", 0)


@pytest.fixture(autouse=True)
def clean_keras():
    """Gives each test the same seed, and restores global settings."""
    data_format = keras.config.image_data_format()
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_image_data_format(data_format)
    keras.config.set_dtype_policy(policy)
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def float64():
    """Lets the backend compute in float64, which JAX must enable."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def few_digits():
    """Puts 100 made-up digits in place of MNIST's 5,000."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.few, patch.setattr)
        yield


@pytest.fixture
def grey_digits(monkeypatch):
    digits.replace(digits.grey, monkeypatch.setattr)


@pytest.fixture
def tiny(monkeypatch):
    """Puts few digits and a network of few parameters in place."""
    digits.replace(digits.few, monkeypatch.setattr)
    networks.replace_tiny(monkeypatch.setitem)


@pytest.fixture(scope="module")
def quick_programs():
    """Programs write their output folders without training."""
    import folder_checks

    with pytest.MonkeyPatch.context() as patch:
        folder_checks.quicken(patch)
        yield


@pytest.fixture(scope="module")
def whole(quick_programs, tmp_path_factory):
    """Returns a function that runs a program once: its folder and answer."""
    import folder_checks

    @functools.cache
    def run(name):
        output = tmp_path_factory.mktemp(name) / "run"
        return output, folder_checks.call(name, output)

    return run


@pytest.fixture
def quick(monkeypatch):
    """Trains nothing."""
    import pretended

    pretended.install(monkeypatch)
    return monkeypatch


@pytest.fixture
def undrawn(monkeypatch):
    """Writes white pictures, as half of the time of a page is its figures."""
    import pretended

    pytest.importorskip("matplotlib")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", pretended.savefig)


@pytest.fixture(scope="module")
def eagerly():
    """Compiles no training, but under JAX, where that takes longer."""
    always = property(lambda model: True, lambda model, value: None)
    with pytest.MonkeyPatch.context() as patch:
        if keras.backend.backend() != "jax":
            patch.setattr(keras.Model, "run_eagerly", always)
        yield


@pytest.fixture(scope="module")
def brighter_digits():
    """Puts 116 made-up digits in place of MNIST's 5,000."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.brighter_by_class, patch.setattr)
        yield
