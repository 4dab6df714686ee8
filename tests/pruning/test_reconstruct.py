"""Reconstruction solves the least squares, and corrects networks with redundant dropped channels exactly."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from amc_tf.graph import keras_reader
from amc_tf.pruning import reconstruct
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.kernels import masks
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.moments import Moments, MomentSums
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.pruning.reconstruct import Reconstruction
from tests import toys
from tests.graph.cases import case, difference


def staying(channels: int) -> np.ndarray:
    """Two of three channels, not the first ones."""
    return np.arange(channels) % 3 != 1


def mixed(model, names: str, constant: float):
    """Replaces the channels to be dropped by mixtures of the kept ones and a constant, so that they are redundant."""
    live = keras_reader.layers(model)
    for name in names.split():
        kernel, *bias = live[name].get_weights()
        stay, rng = staying(kernel.shape[-1]), np.random.default_rng(7)  # equal widths, equal mixtures
        mixture = rng.normal(0, 0.5, (stay.sum(), (~stay).sum())).astype("float32")
        kernel[..., ~stay] = kernel[..., stay] @ mixture
        if bias:
            bias[0][~stay] = bias[0][stay] @ mixture + constant * rng.normal(size=(~stay).sum())
        live[name].set_weights([kernel, *bias])
    return model


def pruner_of(model) -> ChannelPruner:
    return ChannelPruner(model, round_to=1, min_keep=0.01)


def examples(model, count: int = 48, seed: int = 0) -> list[np.ndarray]:
    return toys.random_inputs(model, count, seed)


def plan_of(pruner: ChannelPruner, names: str = "") -> Plan:
    """Units of these names are narrowed; all where none is named."""
    return Plan({u.name: staying(u.size) for u in pruner.units if not names or u.name in names.split()})


def errors(model, plan: Plan, pruner: ChannelPruner, reconstruction: Reconstruction) -> tuple[float, float]:
    """Largest differences from the whole network's outputs: of the sliced one, of the reconstructed one."""
    fresh = examples(model, 8, seed=5)
    sliced = pruner.sliced(plan)
    whole = toys.outputs(model, fresh)
    networks = pruner.apply(plan, sliced), pruner.apply(plan, reconstruction(plan, sliced))
    return tuple(difference(whole, toys.outputs(network, fresh)) for network in networks)


def ends(module, image, x):
    if len(x.shape) > 2:
        x = module.layers.GlobalAveragePooling2D()(x)
    return module.Model(image, module.layers.Dense(5, name="head")(x))


# ------------------------------------------------------------------------------- exactly, where that is possible


def _chain(module, *between, bias=True, first=None):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x = (first or layers.Conv2D(9, 3, use_bias=bias, name="conv"))(image)
    for layer in between:
        x = layer(x)
    return ends(module, image, x)


def conv1x1(module):
    return _chain(module, module.layers.Conv2D(6, 1, activation="relu"))


def conv3x3(module):
    return _chain(module, module.layers.Conv2D(6, 3, activation="relu"))


def conv_strided(module):
    return _chain(module, module.layers.Conv2D(6, (2, 3), strides=2, activation="relu"))


def dense(module):
    return _chain(module)


def dense_behind_flatten(module):
    layers = module.layers
    return _chain(module, layers.MaxPooling2D(2), layers.Conv2D(6, 1, name="conv2"), layers.Flatten())


def dense_on_maps(module):
    return _chain(module, module.layers.Dense(6, activation="relu"))


def two_convolutions(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(6, 3, name="conv2"), layers.Conv2D(6, 1, activation="relu", name="conv3"))


def normed(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU())


def two_convolutions_normed(module):
    layers = module.layers
    between = layers.Conv2D(6, 3, use_bias=False, name="conv2"), layers.BatchNormalization(name="norm2")
    return _chain(module, *between, layers.Conv2D(6, 1, use_bias=False), layers.BatchNormalization(), layers.ReLU())


def padded_without_biases(module):
    between = [
        module.layers.Conv2D(6, 3, padding="same", use_bias=False, activation="relu", name=f"c{n}") for n in "ab"
    ]
    return _chain(module, between[0], bias=False)


def behind_depthwise(module):
    layers = module.layers
    between = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise"), layers.Conv2D(6, 1, activation="relu")
    model = toys.randomized(_chain(module, *between))
    (kernel,) = model.get_layer("depthwise").get_weights()
    model.get_layer("depthwise").set_weights([np.repeat(kernel[:, :, :1], 9, axis=2)])  # mixtures stay mixtures
    return model


def residual(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x = layers.Conv2D(9, 3, name="conv")(image)
    for n in range(2):
        y = layers.Conv2D(6, 1, activation="relu", name=f"inner{n}")(x)
        x = layers.Add()([x, layers.Conv2D(9, 1, name=f"back{n}")(y)])
    return ends(module, image, x)


def concatenation(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x = layers.Concatenate()(
        [layers.Conv2D(6, 3, name="a")(image), image[:, 1:7, 1:7], layers.Conv2D(9, 3, name="b")(image)]
    )
    return ends(module, image, layers.Conv2D(6, 1, activation="relu")(x))


def shared_layer(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    shared = layers.Conv2D(6, 2, activation="relu", name="shared")
    x = [shared(layers.Conv2D(9, 3, name=name)(image)) for name in ("a", "b")]
    return ends(module, image, layers.Concatenate()(x))


def shared_layer_and_norm(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    shared, norm = layers.Conv2D(6, 2, use_bias=False, name="shared"), layers.BatchNormalization(name="norm")
    x = [layers.ReLU()(norm(shared(layers.Conv2D(9, 3, name=name)(image)))) for name in ("a", "b")]
    return ends(module, image, layers.Concatenate()(x))


def nested(module):
    layers = module.layers
    inner = module.Input((6, 6, 9))
    x = layers.Conv2D(9, 2, use_bias=False, name="conv")(inner)
    x = layers.BatchNormalization(name="norm")(x)
    inner = module.Model(inner, x, name="inner")
    return _chain(module, inner, layers.Conv2D(6, 1, activation="relu", name="last"))


EXACT = [  # the network, the layers whose channels go, whether they hold a constant
    (conv1x1, "conv", 1),
    (conv3x3, "conv", 1),
    (conv_strided, "conv", 1),
    (dense, "conv", 1),
    (dense_behind_flatten, "conv2", 1),
    (dense_on_maps, "conv", 1),
    (two_convolutions, "conv conv2", 1),
    (normed, "conv", 1),
    (two_convolutions_normed, "conv conv2", 1),
    (padded_without_biases, "conv", 0),
    (behind_depthwise, "conv", 1),
    (residual, "conv back0 back1", 1),
    (concatenation, "a b", 1),
    (shared_layer, "a b", 1),
    (shared_layer_and_norm, "a b", 1),
    (nested, "conv inner/conv", 1),
]


@pytest.fixture
def slight_ridge(monkeypatch) -> None:
    """The default ridge costs a thousandth of a mixture; with this one only rounding is left."""
    monkeypatch.setattr("amc_tf.pruning.moments.RIDGE", 1e-7)
    monkeypatch.setattr("amc_tf.pruning.moments.SAMPLING_RIDGE", 0.0)


@pytest.mark.parametrize("number", range(len(EXACT)), ids=lambda number: EXACT[number][0].__name__)
def test_mixtures_of_kept_channels_are_not_missed(slight_ridge, number: int) -> None:
    build, names, constant = EXACT[number]
    model = build((keras, tf_keras)[number % 2])  # in turns: nothing here asks which Keras it is
    model = mixed(model if build is behind_depthwise else toys.randomized(model), names, constant)
    pruner = pruner_of(model)
    plan = plan_of(pruner, names)
    assert len(plan) == len({group.name for group in pruner.groups.prunable} & set(names.split())) > 0
    sliced, reconstructed = errors(model, plan, pruner, Reconstruction(pruner, examples(model)))
    assert reconstructed < 2e-3 < 0.1 < sliced


def test_the_ridge_of_real_use_costs_little(keras_module) -> None:
    model = mixed(toys.randomized(conv3x3(keras_module)), "conv", 1)
    pruner = pruner_of(model)
    sliced, reconstructed = errors(model, plan_of(pruner, "conv"), pruner, Reconstruction(pruner, examples(model)))
    assert reconstructed < 0.05 * sliced


@pytest.mark.parametrize("offset", [0, 300, -300])
def test_channels_far_from_zero(slight_ridge, offset: float) -> None:
    """Their squares are large, and must not swallow their small variance."""
    model = mixed(toys.randomized(conv3x3(keras)), "conv", 1)
    layer = model.get_layer("conv")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias + np.float32(offset)])
    pruner = pruner_of(model)
    sliced, reconstructed = errors(model, plan_of(pruner, "conv"), pruner, Reconstruction(pruner, examples(model)))
    assert reconstructed < 1e-2 < 0.1 < sliced


# --------------------------------------------------------------------------------- where a constant must not go


def _untouched(model, names: str) -> None:
    """The network is reconstructed, but none of its BatchNormalizations."""
    pruner = pruner_of(model)
    plan = plan_of(pruner, names)
    sliced = pruner.sliced(plan)
    corrected = Reconstruction(pruner, examples(model))(plan, sliced)
    kinds = {node.layer: node.kind for node in pruner.graph.nodes}
    changed = {layer for layer in corrected if not all(map(np.array_equal, corrected[layer], sliced[layer]))}
    assert changed and not [layer for layer in changed if kinds[layer] == "BatchNormalization"]
    assert all(a.shape == b.shape for layer in corrected for a, b in zip(corrected[layer], sliced[layer], strict=True))


def relu_between(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(6, 3, use_bias=False), layers.ReLU(), layers.BatchNormalization())


def relu_inside(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(6, 3, use_bias=False, activation="relu"), layers.BatchNormalization())


def norm_over_rows(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(axis=1))  # 4 rows, 4 channels


def norm_of_two(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x, norm = layers.Conv2D(9, 3, name="conv")(image), layers.BatchNormalization()
    x = [norm(layers.Conv2D(6, 1, use_bias=False, name=name)(x)) for name in "ab"]
    return ends(module, image, layers.Concatenate()(x))


def read_beside_the_norm(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x = layers.Conv2D(6, 1, use_bias=False)(layers.Conv2D(9, 3, name="conv")(image))
    return ends(module, image, layers.Concatenate()([x, layers.BatchNormalization()(x)]))


def put_out_beside_the_norm(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    x = layers.Conv2D(6, 1, use_bias=False)(layers.Conv2D(9, 3, name="conv")(image))
    return module.Model(image, [x, layers.BatchNormalization()(x)])


def shared_with_one_norm_behind(module):
    layers = module.layers
    image = module.Input((8, 8, 3))
    shared = layers.Conv2D(6, 1, use_bias=False)
    a, b = (shared(layers.Conv2D(9, 3, name=name)(image)) for name in "ab")
    return ends(module, image, layers.Concatenate()([a, layers.BatchNormalization()(b)]))


def bias_and_norm(module):
    layers = module.layers
    return _chain(module, layers.Conv2D(6, 3, name="last"), layers.BatchNormalization())


@pytest.mark.parametrize(
    "build, names",
    [
        (relu_between, "conv"),
        (relu_inside, "conv"),
        (norm_over_rows, "conv"),
        (norm_of_two, "conv"),
        (read_beside_the_norm, "conv"),
        (put_out_beside_the_norm, "conv"),
        (shared_with_one_norm_behind, "a b"),
        (bias_and_norm, "conv"),
    ],
)
def test_norms_that_cannot_take_the_constant_stay(keras_module, build, names: str) -> None:
    _untouched(toys.randomized(build(keras_module)), names)


# ----------------------------------------------------------------------------------------- the least squares itself


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [40, 3])  # 640 and 48 rows for 72 columns
def test_correction_is_the_least_squares_solution(keras_module, monkeypatch, bias: bool, count: int) -> None:
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 3))
    read = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", use_bias=bias, name="reads")(read)
    model = toys.randomized(ends(keras_module, image, x))
    monkeypatch.setattr(reconstruct, "ROWS", 10**6)
    pruner, inputs = pruner_of(model), examples(model, count)
    plan = plan_of(pruner, "conv")
    corrected = Reconstruction(pruner, inputs)(plan, pruner.sliced(plan))["reads"]

    maps = keras_module.Model(image, read)(inputs[0])
    patches = tf.image.extract_patches(maps, (1, 3, 3, 1), (1, 2, 2, 1), (1, 1, 1, 1), "SAME")
    rows = np.asarray(patches, np.float64).reshape(-1, 72)
    mean = rows.mean(axis=0) * bias
    rows = rows - mean
    ridge = len(rows) * (1e-3 + 0.1 * 72 / len(rows)) * np.mean(np.square(rows))
    kernel = pruner.weights["reads"][0].reshape(72, 5)
    kept = np.tile(plan["conv"], 9)
    system = np.concatenate([rows[:, kept], np.sqrt(ridge) * np.eye(kept.sum())])
    lost = np.concatenate([rows[:, ~kept] @ kernel[~kept], np.zeros((kept.sum(), 5))])
    added = np.linalg.lstsq(system, lost, rcond=None)[0]
    assert np.abs(added).max() > 0.005
    assert np.allclose(corrected[0].reshape(-1, 5), kernel[kept] + added, atol=1e-4)
    if bias:
        constant = mean[~kept] @ kernel[~kept] - mean[kept] @ added
        assert np.abs(constant).max() > 0.01
        assert np.allclose(corrected[1], pruner.weights["reads"][1] + constant, atol=1e-4)


@pytest.mark.parametrize("count", [30, 8])
def test_both_forms_of_the_moments_agree(count: int) -> None:
    rng = np.random.default_rng(0)
    rows, kernel, kept = rng.normal(size=(count, 12)), rng.normal(size=(12, 4)), rng.random(12) < 0.6
    by_rows = Moments(np.zeros(12), None, rows, 0.05).correction(kernel, kept)
    by_covariance = Moments(np.zeros(12), rows.T @ rows, None, 0.05).correction(kernel, kept)
    assert np.abs(by_covariance).max() > 0.1 and np.allclose(by_rows, by_covariance, atol=1e-4)  # float32


# --------------------------------------------------------------------------------------------- what stays as it is


def test_the_whole_plan_changes_nothing(keras_module) -> None:
    pruner = pruner_of(toys.randomized(two_convolutions_normed(keras_module)))
    reconstruction = Reconstruction(pruner, examples(pruner.model))
    for plan in (Plan({}), pruner.plan(pruner.full)):
        weights = reconstruction(plan, pruner.sliced(plan))
        assert set(weights) == set(pruner.weights)
        assert all(np.array_equal(a, b) for n in weights for a, b in zip(weights[n], pruner.weights[n], strict=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda layers: layers.Conv2D(9, 3, groups=3, name="reads"),
        lambda layers: layers.Conv2DTranspose(6, 3, name="reads"),
        lambda layers: layers.SeparableConv2D(6, 3, name="reads"),
        lambda layers: layers.DepthwiseConv2D(3, name="reads"),
    ],
)
def test_other_layers_stay_as_sliced(keras_module, build) -> None:
    model = toys.randomized(_chain(keras_module, build(keras_module.layers)))
    pruner = pruner_of(model)
    reconstruction = Reconstruction(pruner, examples(model))
    assert reconstruction.layers == ("head",)
    plan = plan_of(pruner)
    sliced = pruner.sliced(plan)
    assert len(sliced["reads"][0].ravel()) < len(pruner.weights["reads"][0].ravel())
    weights = reconstruction(plan, sliced)
    assert all(map(np.array_equal, weights["reads"], sliced["reads"]))
    assert not np.array_equal(weights["head"][0], sliced["head"][0])


def test_neither_the_model_nor_the_sliced_weights_change(keras_module) -> None:
    model = toys.randomized(nested(keras_module))
    before, given = model.get_weights(), examples(model, 4)
    outputs, kept = toys.outputs(model, given), [array.copy() for array in given]
    pruner = pruner_of(model)
    plan = plan_of(pruner)
    sliced = pruner.sliced(plan)
    copies = {layer: [array.copy() for array in arrays] for layer, arrays in sliced.items()}
    Reconstruction(pruner, given)(plan, sliced)
    assert all(map(np.array_equal, model.get_weights(), before)) and all(map(np.array_equal, given, kept))
    assert all(map(np.array_equal, toys.outputs(model, given), outputs))
    assert not [path for path, layer in keras_reader.layers(model).items() if "call" in vars(layer)]
    assert all(np.array_equal(a, b) for layer in sliced for a, b in zip(sliced[layer], copies[layer], strict=True))


# ------------------------------------------------------------------------------------------------- dead channels


@pytest.mark.parametrize("value", [0.0, 1234.567])
@pytest.mark.parametrize("dead", ["some", "all"])
@pytest.mark.parametrize("build", [conv1x1, conv3x3])
def test_channels_that_never_change(keras_module, build, value: float, dead: str) -> None:
    model = toys.randomized(build(keras_module))
    layer = model.get_layer("conv")
    kernel, bias = layer.get_weights()
    which = np.isin(np.arange(9), (0, 1, 4)) if dead == "some" else np.ones(9, bool)
    kernel[..., which], bias[which] = 0, value * np.linspace(0.5, 1, which.sum())
    layer.set_weights([kernel, bias])
    pruner = pruner_of(model)
    plan = plan_of(pruner, "conv")
    reconstruction = Reconstruction(pruner, examples(model))
    weights = reconstruction(plan, pruner.sliced(plan))
    assert all(np.isfinite(array).all() for arrays in weights.values() for array in arrays)
    wrong, right = errors(model, plan, pruner, reconstruction)
    assert right <= wrong + 1e-4
    if dead == "all":
        assert right <= 1e-6 * value  # a constant makes up for constants
        (reads,) = (layer for layer in reconstruction.layers if layer != "head")
        added = weights[reads][0] - pruner.sliced(plan)[reads][0]
        assert np.abs(added).max() < 1e-3  # and there is no reason for more


def test_rounding_alone_is_not_corrected() -> None:
    """The mean of many equal numbers is rounded; the rounding error must not count as variance."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        sums, columns = MomentSums(20, centred=True), rng.normal(0, 1000, 20).astype("float32")
        for _ in range(3):
            sums.add(np.repeat(columns[None], rng.integers(500, 1000), axis=0))
        moments = sums.moments()
        assert np.allclose(moments.mean, columns, rtol=1e-6)
        added = moments.correction(np.ones((20, 1), np.float32), np.arange(20) % 2 == 0)
        assert np.abs(added).max() < 0.1


# ------------------------------------------------------------------------------------------------------ all toys


def _toys() -> list:
    """Every toy once, under Keras 3 where that can build it; but for a large one of layers that others have."""
    chosen = [toy for toy in toys.TOYS.values() if toy.shrinks and toy.name != "mobilenet_under_a_head"]
    return [pytest.param(toy.kerases[0], toy, id=toy.name) for toy in chosen]


@pytest.mark.parametrize("keras_name, toy", _toys())
def test_all_toys(keras_name: str, toy: toys.Toy) -> None:
    model = case(keras_name, toy.name).model
    pruner = pruner_of(model)
    plan = plan_of(pruner)
    sliced = pruner.sliced(plan)
    weights = Reconstruction(pruner, examples(model, 4))(plan, sliced)
    assert list(weights) == list(sliced)
    for layer, arrays in weights.items():
        assert [(a.shape, a.dtype) for a in arrays] == [(a.shape, a.dtype) for a in sliced[layer]]
        assert all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")


TELLING = """conv1d conv2d conv3d dense dense_on_sequences depthwise residual concatenate shared_on_two_branches
    nested_twice batchnorm mixed_precision recurrent""".split()


@pytest.mark.parametrize("toy_name", TELLING)
def test_reconstructed_toys_are_nearer_to_the_whole_ones(toy_name: str) -> None:
    """On inputs that the reconstruction has not seen; nothing in these networks makes it easy."""
    model = case("keras", toy_name).model
    pruner = pruner_of(model)
    plan = plan_of(pruner)
    sliced, fresh = pruner.sliced(plan), examples(model, 32, seed=5)
    whole = toys.outputs(model, fresh)
    weights = sliced, Reconstruction(pruner, examples(model, 64))(plan, sliced)
    outputs = [toys.outputs(pruner.apply(plan, these), fresh) for these in weights]
    wrong, right = (sum(np.square(a - b).sum() for a, b in zip(output, whole, strict=True)) for output in outputs)
    assert right < 0.9 * wrong


# ------------------------------------------------------------------------------------------- the same, however asked


def _same(first: dict, second: dict) -> bool:
    return all(map(np.array_equal, (a for n in first for a in first[n]), (a for n in second for a in second[n])))


def _several_plans(pruner: ChannelPruner) -> list[Plan]:
    rng = np.random.default_rng(0)
    return [pruner.plan([rng.choice(unit.widths) for unit in pruner.units]) for _ in range(8)]


def test_corrections_depend_neither_on_earlier_plans_nor_on_threads(monkeypatch) -> None:
    model = toys.randomized(two_convolutions_normed(keras))
    pruner = pruner_of(model)
    plans = _several_plans(pruner)
    fresh = [Reconstruction(pruner, examples(model))(plan, pruner.sliced(plan)) for plan in plans]
    shared = Reconstruction(pruner, examples(model))
    with ThreadPoolExecutor(4) as threads:
        corrected = list(threads.map(lambda plan: shared(plan, pruner.sliced(plan)), plans * 4))
    assert all(map(_same, corrected, fresh * 4))
    monkeypatch.setattr(reconstruct, "_CACHE", 2000)  # bytes: hardly a correction
    assert all(_same(shared(plan, pruner.sliced(plan)), weights) for plan, weights in zip(plans, fresh, strict=True))


def test_a_correction_is_solved_once(monkeypatch) -> None:
    model = toys.randomized(two_convolutions_normed(keras))
    pruner = pruner_of(model)
    reconstruction, solved = Reconstruction(pruner, examples(model)), []
    solve = Moments.correction
    monkeypatch.setattr(Moments, "correction", lambda *given: solved.append(given) or solve(*given))  # and counts
    plans = _several_plans(pruner)
    first = [reconstruction(plan, pruner.sliced(plan)) for plan in plans]
    count = len(solved)
    assert 0 < count < sum(len(reconstruction.layers) for _ in plans)  # some plans keep the same channels of a unit
    assert all(map(_same, first, [reconstruction(plan, pruner.sliced(plan)) for plan in plans]))
    reconstruction(Plan({}), pruner.weights)
    assert len(solved) == count  # nor is anything where nothing goes


def test_a_correction_larger_than_the_cache_is_not_kept(monkeypatch) -> None:
    model = toys.randomized(two_convolutions_normed(keras))
    pruner = pruner_of(model)
    reconstruction, plan = Reconstruction(pruner, examples(model)), plan_of(pruner)
    solved = []
    solve = Moments.correction
    monkeypatch.setattr(Moments, "correction", lambda *given: solved.append(given) or solve(*given))
    for room, times in ((0, 1), (0, 2), (1 << 20, 3), (1 << 20, 3)):
        monkeypatch.setattr(reconstruct, "_CACHE", room)
        reconstruction(plan, pruner.sliced(plan))
        assert len(solved) == times * len(reconstruction.layers)


def test_the_seed_picks_the_positions(monkeypatch) -> None:
    monkeypatch.setattr(reconstruct, "ROWS", 4)
    model = toys.randomized(conv3x3(keras))
    pruner = pruner_of(model)
    plan = plan_of(pruner, "conv")
    one, same, other = (Reconstruction(pruner, examples(model), s)(plan, pruner.sliced(plan)) for s in (1, 1, 2))
    assert _same(one, same) and not _same(one, other)


@pytest.mark.parametrize("count", [1, 5, 33])
def test_any_number_of_examples(keras_module, count: int) -> None:
    """Also where the model was built for batches of two."""
    model = case(keras_module.__name__, "fixed_batch").model
    pruner = pruner_of(model)
    plan = plan_of(pruner)
    sliced = pruner.sliced(plan)
    weights = Reconstruction(pruner, examples(model, count))(plan, sliced)
    assert np.isfinite(weights["head"][0]).all() and not _same(weights, sliced)


def test_half_precision_weights(keras_module) -> None:
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 3), dtype="float16")
    x = layers.Conv2D(9, 3, activation="relu", dtype="float16", name="conv")(image)
    x = layers.Conv2D(6, 3, dtype="float16", use_bias=False, name="reads")(x)
    x = layers.BatchNormalization(dtype="float16", name="norm")(x)
    x = layers.GlobalAveragePooling2D(dtype="float16")(x)
    model = toys.randomized(keras_module.Model(image, layers.Dense(5, dtype="float16", name="head")(x)))
    pruner = pruner_of(model)
    plan = plan_of(pruner, "conv")
    sliced = pruner.sliced(plan)
    inputs = [array.astype("float16") for array in examples(model)]
    weights = Reconstruction(pruner, inputs)(plan, sliced)
    assert all(a.dtype == b.dtype for n in sliced for a, b in zip(weights[n], sliced[n], strict=True))
    assert weights["reads"][0].dtype == np.float16
    whole = toys.outputs(model, inputs)
    wrong, right = (difference(whole, toys.outputs(pruner.apply(plan, these), inputs)) for these in (sliced, weights))
    assert right < 0.5 * wrong


# ------------------------------------------------------------------------------------------------ plans of weights


def by_weights(model, keep: float = 0.5, **settings) -> tuple[MagnitudePruner, Plan]:
    pruner = MagnitudePruner(model, **settings)
    return pruner, pruner.plan([max(1, round(keep * unit.size)) for unit in pruner.units])


@pytest.mark.parametrize("fewer_rows", [True, False])
def test_each_output_is_corrected_by_least_squares(fewer_rows: bool) -> None:
    """Columns that go together and are of unlike size, as those of a network; and one that never changes."""
    rng = np.random.default_rng(0)
    count, columns = (40, 60) if fewer_rows else (400, 60)
    rows = rng.normal(size=(count, columns)) @ (np.eye(columns) + 0.2 * rng.normal(size=(columns, columns)))
    rows = rows * np.geomspace(0.3, 3, columns) / np.sqrt(count)
    rows[:, 7] = 0
    kernel, mask = rng.normal(size=(columns, 9)), rng.random((columns, 9)) < 0.5
    mask[:, 3], mask[:, 4] = True, False  # all of an output stay, or none
    ridge = 0.01 * np.square(rows).sum() / columns
    moments = Moments(np.zeros(columns), *((None, rows) if fewer_rows else (rows.T @ rows, None)), ridge)
    solution = moments.masked_correction(kernel, mask)
    assert solution.shape == kernel.shape and not solution[~mask].any()

    def loss(added: np.ndarray) -> np.ndarray:
        off = rows @ (np.where(mask, 0, kernel) - added)
        return np.square(off).sum(axis=0) + ridge * np.square(added).sum(axis=0)

    best = np.zeros_like(kernel)
    for output, kept in enumerate(mask.T):
        system = np.concatenate([rows[:, kept], np.sqrt(ridge) * np.eye(kept.sum())])
        lost = np.concatenate([rows[:, ~kept] @ kernel[~kept, output], np.zeros(kept.sum())])
        best[kept, output] = np.linalg.lstsq(system, lost, rcond=None)[0]
    assert (loss(best) <= loss(solution) + 1e-12).all()
    cut = mask.any(axis=0) & ~mask.all(axis=0)
    assert (loss(solution) - loss(best))[cut].max() < 0.01 * (loss(np.zeros_like(kernel)) - loss(best))[cut].min()
    assert np.allclose(solution, best, atol=0.02 * np.abs(best).max()) and np.abs(best).max() > 0.5
    assert not solution[:, ~cut].any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [40, 3])  # 640 and 48 rows for 72 columns
def test_reconstructed_weights_are_the_least_squares(keras_module, monkeypatch, bias: bool, count: int) -> None:
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 8))
    x = layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", use_bias=bias, name="reads")(image)
    model = toys.randomized(ends(keras_module, image, x))
    monkeypatch.setattr(reconstruct, "ROWS", 10**6)
    inputs = [array * np.linspace(0.5, 2, 8, dtype="float32") + 1 for array in examples(model, count)]
    pruner, plan = by_weights(model, frozen=["head"])
    sliced = pruner.sliced(plan)
    corrected = Reconstruction(pruner, inputs)(plan, sliced)["reads"]

    patches = tf.image.extract_patches(inputs[0], (1, 3, 3, 1), (1, 2, 2, 1), (1, 1, 1, 1), "SAME")
    rows = np.asarray(patches, np.float64).reshape(-1, 72)
    whole, mean = rows, rows.mean(axis=0) * bias
    rows = rows - mean
    ridge = len(rows) * (1e-3 + 0.1 * 72 / len(rows)) * np.mean(np.square(rows))
    kernel, mask = pruner.weights["reads"][0].reshape(72, 5), plan["reads"].reshape(72, 5)
    added = np.zeros_like(kernel)
    for output, kept in enumerate(mask.T):
        system = np.concatenate([rows[:, kept], np.sqrt(ridge) * np.eye(kept.sum())])
        lost = np.concatenate([rows[:, ~kept] @ kernel[~kept, output], np.zeros(kept.sum())])
        added[kept, output] = np.linalg.lstsq(system, lost, rcond=None)[0]
    assert np.abs(added).max() > 0.05
    assert np.allclose(corrected[0].reshape(72, 5), np.where(mask, kernel + added, 0), atol=2e-3)
    assert np.count_nonzero(corrected[0]) == plan["reads"].sum() and not corrected[0].reshape(-1)[~plan["reads"]].any()
    outputs = [whole @ weights[0].reshape(72, 5) + (weights[1] if bias else 0) for weights in
               (pruner.weights["reads"], sliced["reads"], corrected)]  # fmt: skip
    wrong, right = (np.square(output - outputs[0]).sum() for output in outputs[1:])
    assert right < (0.7 if bias else 0.9) * wrong
    if bias:
        constant = mean @ (np.where(mask, 0, kernel) - added)
        assert np.abs(constant).max() > 0.1
        assert np.allclose(corrected[1], pruner.weights["reads"][1] + constant, atol=5e-3)
        assert np.allclose(outputs[2].mean(axis=0), outputs[0].mean(axis=0), atol=1e-4)


def test_the_constant_goes_into_the_norm_behind(keras_module) -> None:
    layers = keras_module.layers
    between = layers.Conv2D(6, 1, use_bias=False, name="reads"), layers.BatchNormalization(name="norm")
    model = toys.randomized(_chain(keras_module, *between, first=layers.ReLU()))
    pruner, plan = by_weights(model, frozen=["head"])
    inputs, sliced = examples(model), pruner.sliced(plan)
    corrected = Reconstruction(pruner, inputs)(plan, sliced)
    (index,) = [i for i, (a, b) in enumerate(zip(corrected["norm"], sliced["norm"], strict=True)) if (a != b).any()]
    assert pruner.graph.weights["norm"][index].name == "moving_mean"
    read = np.maximum(inputs[0], 0).reshape(-1, 3).mean(axis=0)
    lost = read @ (pruner.weights["reads"][0] - corrected["reads"][0]).reshape(3, 6)
    assert np.abs(lost).max() > 0.02
    assert np.allclose(sliced["norm"][index] - corrected["norm"][index], lost, atol=5e-3)  # of half of the places


@pytest.mark.parametrize("toy_name", TELLING)
def test_toys_with_reconstructed_weights_are_nearer_to_the_whole_ones(toy_name: str) -> None:
    model = case("keras", toy_name).model
    pruner, plan = by_weights(model)
    sliced, fresh = pruner.sliced(plan), examples(model, 32, seed=5)
    whole = toys.outputs(model, fresh)
    reconstruction = Reconstruction(pruner, examples(model, 64))
    weights = reconstruction(plan, sliced)
    assert list(weights) == list(sliced) and reconstruction.layers
    for layer, arrays in weights.items():
        assert [(a.shape, a.dtype) for a in arrays] == [(a.shape, a.dtype) for a in sliced[layer]]
    for layer, (index, mask) in masks(pruner.graph, plan).items():
        assert np.array_equal(weights[layer][index] != 0, mask)
    outputs = [toys.outputs(pruner.apply(plan, these), fresh) for these in (sliced, weights)]
    wrong, right = (sum(np.square(a - b).sum() for a, b in zip(output, whole, strict=True)) for output in outputs)
    assert right < 0.9 * wrong


def test_where_no_weight_goes_none_changes(keras_module) -> None:
    """Be the plan whole or of other kernels, and zeros that were there stay."""
    model = toys.randomized(two_convolutions_normed(keras_module))
    kernel = model.get_layer("conv2").get_weights()[0]
    kernel[:, 1] = 0
    model.get_layer("conv2").set_weights([kernel])
    pruner, half = by_weights(model)
    reconstruction = Reconstruction(pruner, examples(model))
    for plan, changed in (
        (pruner.plan(pruner.full), set()),
        (Plan({}, WEIGHTS), set()),
        (Plan({"conv2": half["conv2"]}, WEIGHTS), {"conv2", "norm2"}),
    ):
        weights = reconstruction(plan, pruner.sliced(plan))
        assert set(weights) == set(pruner.weights)
        same = {name: all(map(np.array_equal, weights[name], pruner.weights[name])) for name in weights}
        assert {name for name in same if not same[name]} == changed
        assert not weights["conv2"][0][:, 1].any()


@pytest.mark.parametrize(
    "build",
    [
        lambda layers: layers.Conv2D(9, 3, groups=3, name="reads"),
        lambda layers: layers.Conv2DTranspose(6, 3, name="reads"),
        lambda layers: layers.SeparableConv2D(6, 3, name="reads"),
    ],
)
def test_kernels_of_other_layers_stay_as_they_are(keras_module, build) -> None:
    model = toys.randomized(_chain(keras_module, build(keras_module.layers)))
    pruner, plan = by_weights(model)
    reconstruction, sliced = Reconstruction(pruner, examples(model)), pruner.sliced(plan)
    assert reconstruction.layers == ("conv", "head") and "reads" in plan
    weights = reconstruction(plan, sliced)
    assert all(map(np.array_equal, weights["reads"], sliced["reads"]))
    assert not np.array_equal(weights["head"][0], sliced["head"][0])


@pytest.mark.parametrize("value", [0.0, 1234.567])
def test_weights_of_channels_that_never_change(value: float) -> None:
    model = toys.randomized(conv3x3(keras))
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([0 * kernel, value * np.linspace(0.5, 1, 9)])
    pruner, plan = by_weights(model)
    (reads,) = (unit.name for unit in pruner.units if unit.name != "head")
    plan, reconstruction = Plan({reads: plan[reads]}, WEIGHTS), Reconstruction(pruner, examples(model))
    wrong, right = errors(model, plan, pruner, reconstruction)
    assert right <= 1e-6 * value and (wrong > 1 or not value)  # a constant makes up for constants


def test_reconstructing_weights_changes_nothing_else() -> None:
    model = toys.randomized(nested(keras))
    before = model.get_weights()
    pruner, plan = by_weights(model)
    sliced = pruner.sliced(plan)
    copies = {layer: [array.copy() for array in arrays] for layer, arrays in sliced.items()}
    reconstruction = Reconstruction(pruner, examples(model))
    first = reconstruction(plan, sliced)
    assert all(map(np.array_equal, model.get_weights(), before))
    assert all(np.array_equal(a, b) for layer in sliced for a, b in zip(sliced[layer], copies[layer], strict=True))
    with ThreadPoolExecutor(2) as threads:
        assert all(_same(first, again) for again in threads.map(lambda _: reconstruction(plan, sliced), range(4)))
