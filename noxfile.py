"""Other versions, and whole tables: `nox -s SESSION`, on demand.

    pip install nox
    nox -s versions               # those Pythons that are installed
    nox -s core                   # the lowest Keras, without TensorFlow
    nox -s compatibility exports  # docs/compatibility.md, larger networks

What `.ci/run` checks runs without nox.
"""

import glob
import pathlib

import nox

nox.options.error_on_missing_interpreters = False

TORCH = "torch==2.13.0"
BACKENDS = ("tensorflow", "jax", "torch")
# The lowest that pyproject.toml allows, and the newest there are.
VERSIONS = {
    "lowest": (
        *("keras==3.10.0", "tensorflow==2.18.0"),
        *("scikit-learn==1.6.1", "filelock==3.32.0"),
        # Later ones need a newer protobuf than TensorFlow 2.18 does.
        "tensorflow-metadata<1.17",
    ),
    "newest": ("keras", "tensorflow"),
}

# The tests of layers, models, insertion and explanations.
CORE = (
    "test_layers*",
    "test_attention_gate",
    "test_models*",
    "test_insertion_*",
    "test_placement",
    "test_explain*",
    "test_profiling",
    "test_private_names",
    "test_refusals",
    "test_workflow",
)


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("versions", list(VERSIONS), ids=list(VERSIONS))
def versions(session, versions):
    """Runs the tests that depend on the backend, on TensorFlow."""
    if versions == "lowest" and session.python == "3.13":
        session.skip("TensorFlow 2.18 has no build for Python 3.13")
    # KerasHub and the exports, in `dev`, need newer ones.
    session.install(*VERSIONS[versions], "-e", ".[all]", "pytest")
    session.run("python", "-m", "pytest", "-q", "-m", "every_backend")


@nox.session
def core(session):
    """Runs the tests of the core on the lowest Keras, under JAX."""
    lowest = [x for x in VERSIONS["lowest"] if "tensorflow" not in x]
    session.install(*lowest, "-e", ".[jax,plot,tune]", "pytest", "mlxtend")
    files = [path for name in CORE for path in glob.glob(f"tests/{name}.py")]
    session.run(
        *("python", "-m", "pytest", "-q", *sorted(files)),
        env={"KERAS_BACKEND": "jax"},
    )


def _on_every_backend(session, *arguments, **environment):
    session.install(TORCH)
    session.install("-e", ".[dev,jax,torch]")
    for backend in BACKENDS:
        session.run(
            *("python", "-m", "pytest", "-q", *arguments),
            env={"KERAS_BACKEND": backend, **environment},
        )


@nox.session
def compatibility(session):
    """Fills docs/compatibility.md, twice, so that all load from all."""
    folder = pathlib.Path(session.create_tmp()).resolve()
    for _ in range(2):
        _on_every_backend(
            session,
            "tests/test_compatibility.py",
            *("-m", "exhaustive or not exhaustive"),
            COMPATIBILITY=str(folder),
        )


@nox.session
def exports(session):
    """Exports larger networks in every backend."""
    _on_every_backend(session, "tests/test_exports.py", "-m", "exhaustive")
