"""Networks of several seeds, which are compiled once, and those that are not.

What is trained must be what it is alone, to the bit.
"""

import functools

import keras
import pytest
from digits import brighter_by_class
from folder_checks import killed_at, weights
from networks_of_users import KINDS
from training_checks import SMALL

from cbam_keras import comparison, layers, models, study
from cbam_keras.study.plans.networks import is_of_package
from cbam_keras.study.running import compiled


def plan_of(kind, seeds=(0, 1), variants=("a", "b")):
    """Returns a study of the two networks of a kind."""
    recipe, builds = KINDS[kind]
    images, labels = brighter_by_class()
    made = [study.Variant(*x) for x in zip("ab", builds, strict=True)]
    return study.Study(
        study.Classification((images[..., None], labels)),
        [x for x in made if x.name in variants],
        seeds=seeds,
        recipe=recipe,
    )


def trained(results):
    """Returns all that each network is, by its folder."""
    saved = weights(results.output)
    found = {}
    for outcome in results.outcomes:
        assert outcome.finished, outcome.message
        rows = [{**row, "seconds": None} for row in outcome.history]
        values = saved[outcome.file]
        found[outcome.file] = rows, outcome.metrics, values
    return found


def check_alone(kind, folder, results, **cell):
    """Raises unless networks are what they are in a run of their own."""
    alone = trained(study.run(plan_of(kind, **cell), folder))
    together = trained(results)
    assert alone == {name: together[name] for name in alone}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "kind",
    [
        "random image layers first",
        "bases of other attributes",
    ],
)
def test_networks_of_users_are_what_they_are_alone(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.CompiledNetworks, "reuse", None)
    results = study.run(plan_of(kind), tmp_path / "both")
    first, second = (
        [x.history[-1]["loss"] for x in results.outcomes if x.variant == name]
        for name in "ab"
    )
    assert {*first}.isdisjoint(second)
    cell = {"seeds": [1], "variants": "b"}
    check_alone(kind, tmp_path / "alone", results, **cell)


def unseeded_under_jax(kind):
    is_refused = kind == "a layer without a seed"
    return is_refused and keras.backend.backend() == "jax"


@pytest.mark.exhaustive
@pytest.mark.every_backend
@pytest.mark.parametrize("kind", KINDS)
def test_all_networks_of_users_are_what_they_are_alone(
    kind, tmp_path, monkeypatch
):
    if unseeded_under_jax(kind):
        pytest.skip("Keras refuses it under JAX")
    results = study.run(plan_of(kind), tmp_path / "both")
    for variant in "ab":
        for seed in (0, 1):
            cell = {"seeds": [seed], "variants": variant}
            folder = tmp_path / f"{variant}{seed}"
            check_alone(kind, folder, results, **cell)
    for number, ending in enumerate(["-epoch-1.keras", "-epoch-2.keras"]):
        folder = tmp_path / f"killed-{number}"
        with killed_at(ending, folder):
            study.run(plan_of(kind), folder)
        check_alone(kind, folder, results)
    monkeypatch.setattr(compiled, "MOST_PARAMETERS", -1)
    check_alone(kind, tmp_path / "never reused", results)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_workers_train_networks_of_users_as_one_process_does(kind, tmp_path):
    pytest.importorskip("cloudpickle")
    results = study.run(plan_of(kind), tmp_path / "one")
    several = study.run(plan_of(kind), tmp_path / "two", workers=2)
    assert trained(several) == trained(results)


# Networks that the package builds by name.


def by_name(**options):
    return comparison.plan(
        ["se"], data="mnist5k", **{"recipe": SMALL, **options}
    )


@pytest.mark.slow
@pytest.mark.every_backend
def test_networks_of_several_seeds_are_compiled_once(
    tiny, tmp_path, monkeypatch
):
    compiles, make = [], keras.Model.make_train_function

    def noted(self, *args, **kwargs):
        compiles.append(self.train_function is None)
        return make(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "make_train_function", noted)

    def run(seeds):
        return study.run(by_name(seeds=seeds), tmp_path / f"{seeds}")

    together = trained(run([0, 1, 2]))
    is_compiled = keras.backend.backend() != "torch"
    assert compiles == [True, not is_compiled, not is_compiled]
    alone = trained(run([2]))
    assert alone == {name: together[name] for name in alone}


def made(loss="mse", seed=0):
    """Returns a network of the names that each of its kind has."""
    keras.utils.clear_session(free_memory=False)
    drop, dense = keras.layers.Dropout(0.5, seed=seed), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((3,)), drop, dense])
    model.compile(keras.optimizers.SGD(), loss)
    return model


@pytest.mark.skipif(
    "keras.backend.backend() == 'torch'", reason="nothing is compiled"
)
def test_seeds_of_one_variant_are_shared(monkeypatch):
    def like(model, variant="a", fingerprint="same"):
        return shared.reuse(model, variant, fingerprint)

    shared = compiled.CompiledNetworks()
    first, other = made(), made(seed=7)
    assert like(first) is like(other) is first
    values = [
        [keras.ops.convert_to_numpy(x).tolist() for x in model.variables]
        for model in (first, other)
    ]
    assert values[0] == values[1]
    assert like(other, "b") is other
    assert like(other, fingerprint="another") is other
    another = made(loss="mae")
    assert like(another) is another
    monkeypatch.setattr(compiled, "MOST_PARAMETERS", 3)
    assert like(other) is other


class Mine(keras.layers.Layer):
    """A layer of users."""


def own(attention):
    """A network of users."""


class OwnTask(study.Classification):
    """A task of users."""


@functools.wraps(models.ResNet18)
def wrapped(**options):
    """Looks like a function of the package, and is none."""


@pytest.mark.parametrize(
    "options",
    [
        {"model": own},
        {"model": lambda attention: None},
        {"model": wrapped},
        {"model": functools.partial(models.ResNet18, attention=own)},
        {"attentions": [Mine]},
        {"attentions": [layers.Attention(Mine)]},
        {"layer_options": {"kernel_initializer": "he_normal"}, "is_ours": True},
        {"layer_options": {"kernel_initializer": keras.initializers.Zeros()}},
        {"model": "small", "is_ours": True},
        {"model": "MobileNetV2", "is_ours": True},
        {"model": models.ResNet18, "is_ours": True},
        {"instead_of": "se", "model": "EfficientNetB0", "is_ours": True},
    ],
)
def test_what_is_of_the_package_is_known(options):
    is_ours = options.pop("is_ours", False)
    attentions = options.pop("attentions", ["cbam"])
    planned = comparison.plan(attentions, data="mnist5k", **options)
    assert is_of_package(planned.variants[-1].build) == is_ours


def test_spaces_of_users_are_known():
    tuning = pytest.importorskip("cbam_keras.tuning")

    def built(kind=tuning.CBAMHyperModel, **options):
        search = tuning.Search(kind(**options), "mnist5k")
        return search.variant(search.points[-1]).build

    assert is_of_package(built())
    assert not is_of_package(built(model=own))
    assert not is_of_package(built(attention=[Mine]))
    assert not is_of_package(built(type("Own", (tuning.CBAMHyperModel,), {})))


def test_names_and_losses_of_users_are_known():
    losses = keras.losses
    with keras.saving.custom_object_scope({"mine": own}):
        assert not is_of_package({"activation": "mine"})
    assert is_of_package({"activation": "mine"})
    assert is_of_package([None, "focal", 0.1, losses.Huber()])
    mine = losses.Loss.__new__(type("Mine", (losses.Loss,), {}))
    assert not is_of_package(mine)
    own_function = losses.categorical_crossentropy
    wrapper = losses.Huber()
    assert is_of_package(own_function)
    wrapper.fn = lambda y, x: 0.0
    assert not is_of_package(wrapper)
    assert not is_of_package(OwnTask)
    assert is_of_package(study.Classification)
