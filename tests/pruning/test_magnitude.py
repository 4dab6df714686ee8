"""MagnitudePruner: units, widths, and the weights that stay at a keep ratio or above one threshold."""

import keras as keras_3
import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_reader
from amc_tf.pruning.kernels import kernels, masks, zeroed
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.tflite.conversion import agreement
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.slicing.candidate import Candidates
from tests import toys
from tests.graph.cases import case, difference
from tests.toys import outputs

UNITS = {  # the toy -> its units, in the network's order
    "conv1d": "conv1 conv2 head",
    "conv2d_transpose": "conv up1 up2 head",
    "conv3d": "conv1 conv2 head",
    "conv3d_transpose": "conv up head",
    "dense_on_sequences": "dense1 dense2 head",
    "depthwise": "conv after head",  # "tripling" is a depthwise one
    "grouped": "conv grouped after head",
    "grouped_by_channel": "conv after head",  # the grouped ones are depthwise ones by another name
    "nested_twice": "outer/encoder/conv1 outer/encoder/conv2 outer/conv head",
    "recurrent": "conv held dense head",
    "separable1d": "conv separable head",
    "shared_layer": "conv shared twice head",  # "twice" is called twice and has one kernel
    "shared_nested_model": "encoder/conv1 encoder/conv2 head",
}


def dense(keras, *kernels: np.ndarray):
    """Dense layers "dense0", "dense1", ... with these kernels."""
    x = image = keras.Input((kernels[0].shape[0],))
    for number, kernel in enumerate(kernels):
        x = keras.layers.Dense(kernel.shape[1], use_bias=False, name=f"dense{number}")(x)
    model = keras.Model(image, x)
    model.set_weights(list(kernels))
    return model


def half(pruner: MagnitudePruner) -> Plan:
    return pruner.plan([unit.size // 2 for unit in pruner.units])


def kept(model, layer: str) -> int:
    """Number of nonzero weights of a layer's kernel."""
    graph, weights = keras_reader.read(model)
    return np.count_nonzero(weights[layer][kernels(graph)[layer]])


# ------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_one_kernel(keras_module, name: str) -> None:
    pruner = MagnitudePruner(case(keras_module.__name__, name).model)
    assert [unit.name for unit in pruner.units] == UNITS[name].split()
    for unit in pruner.units:
        kernel = pruner.kernels[unit.name]
        assert kernel.ndim > 1 and unit.size == kernel.size == unit.widths[-1]
        assert unit.filters == kernel.shape[-1] and pruner.mask(unit, 1.0).shape == (kernel.size,)


def test_the_kernel_of_a_separable_convolution_is_the_pointwise_one(keras_module) -> None:
    pruner = MagnitudePruner(case(keras_module.__name__, "separable2d").model)
    assert [pruner.kernels[unit.name].shape for unit in pruner.units[:2]] == [(1, 1, 3, 6), (1, 1, 12, 7)]
    smaller = pruner.apply(half(pruner))
    spatial, pointwise, _ = smaller.get_layer("separable1").get_weights()
    assert np.count_nonzero(pointwise) == 9 and spatial.all()


def test_kernels_beside_other_multiplying_weights_are_kept() -> None:
    """Low-rank matrices are added to the kernel, so its zeros are no zeros of the product."""
    pruner = MagnitudePruner(case("keras", "lora").model)
    extra = {node.layer for node in pruner.graph.nodes if any("lora" in weight.name for weight in node.weights)}
    assert extra and not extra & {unit.name for unit in pruner.units}


def test_units_have_the_features_of_the_layer_with_the_kernel(keras_module) -> None:
    pruner = MagnitudePruner(case(keras_module.__name__, "conv2d").model)
    _, second, _, head = pruner.units
    assert (second.filters, second.inputs, second.height, second.width) == (6, 8, 6, 6)
    assert (second.stride, second.kernel) == (2, 3)
    assert (head.filters, head.inputs, head.height, head.stride, head.kernel) == (5, 7, 1, 1, 1)


def test_the_papers_bounds(keras_module) -> None:
    """At most 0.8 of a convolution goes, and 0.98 of a Dense layer."""
    rng = np.random.default_rng(0)
    layers = keras_module.layers
    image = keras_module.Input((4, 4, 10))
    x = layers.SeparableConv2D(50, 1, name="separable")(layers.Conv2D(10, 1, name="conv")(image))
    x = layers.Dense(20, name="dense")(layers.GlobalAveragePooling2D()(x))
    model = keras_module.Model(image, x)
    model.set_weights([rng.normal(size=array.shape) for array in model.get_weights()])
    least = {unit.name: (unit.widths[0], unit.size) for unit in MagnitudePruner(model).units}
    assert least == {"conv": (20, 100), "separable": (100, 500), "dense": (20, 1000)}
    assert MagnitudePruner(model).low == 0.02
    pruner = MagnitudePruner(model, min_keep=0.35)
    assert [unit.widths[0] for unit in pruner.units] == [35, 175, 350] and pruner.low == 0.35


def test_widths_are_hundredths_of_the_weights() -> None:
    (unit,) = MagnitudePruner(dense(keras_3, np.ones((60, 50))), min_keep=0.5).units
    assert unit.widths == tuple(range(1500, 3001, 30))
    (small,) = MagnitudePruner(dense(keras_3, np.ones((3, 2)))).units
    assert small.widths == (1, 2, 3, 4, 5, 6)


def test_zeros_that_were_there_are_gone_already(keras_module) -> None:
    kernel = np.arange(1.0, 21).reshape(4, 5)
    kernel[:, [0, 3]] = 0
    pruner = MagnitudePruner(dense(keras_module, kernel))
    (unit,) = pruner.units
    assert unit.size == 12 and unit.widths == tuple(range(1, 13))
    assert (pruner.plan([12])["dense0"] == (kernel != 0).reshape(-1)).all()
    assert kept(pruner.apply(pruner.plan([5])), "dense0") == 5
    assert pruner.mask(unit, 0.5).sum() == 6


def test_kernels_of_one_weight_or_none_are_no_units() -> None:
    one, none = np.array([[3.0], [0.0]]), np.zeros((1, 4))
    pruner = MagnitudePruner(dense(keras_3, one, none, np.ones((4, 2))), min_keep=0.5)  # of one, half is none
    assert [unit.name for unit in pruner.units] == ["dense2"]


# ------------------------------------------------------------------------------------------------------------- masks


@settings(max_examples=30)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=30).filter(lambda values: np.count_nonzero(values) > 1))
def test_the_largest_stay(values: list[int]) -> None:
    """Exactly as many as the width says; of equal ones the first."""
    kernel = np.array(values, np.float32)[:, None]
    pruner = MagnitudePruner(dense(keras_3, kernel))
    (unit,) = pruner.units
    order = sorted(range(len(values)), key=lambda index: (-abs(values[index]), index))
    for width in unit.widths:
        assert np.flatnonzero(pruner.plan([width])["dense0"]).tolist() == sorted(order[:width])


def test_of_many_equal_weights_the_first_stay() -> None:
    """On every machine: the sort is a stable one."""
    kernel = np.where(np.arange(1000) % 2, -1.0, 0.5).reshape(100, 10)
    mask = MagnitudePruner(dense(keras_3, kernel)).plan([250])["dense0"]
    assert np.flatnonzero(mask).tolist() == list(range(1, 500, 2))


@pytest.mark.parametrize(("keep", "width"), [(1.0, 1000), (0.5, 500), (0.5074, 507), (0.001, 1), (0.0026, 3)])
def test_a_given_keep_ratio_is_kept_to_the_weight(keep: float, width: int) -> None:
    """Widths and bounds are those of a search."""
    kernel = np.random.default_rng(0).normal(size=(50, 20))
    pruner = MagnitudePruner(dense(keras_3, kernel))
    mask = pruner.mask(pruner.units[0], keep)
    assert mask.sum() == width
    assert np.abs(kernel.reshape(-1)[~mask]).max(initial=0) < np.abs(kernel.reshape(-1)[mask]).min()


@pytest.mark.parametrize("size", [3, 49, 1000, 10007, 30000])
def test_a_ratio_of_one_weight_is_kept_and_one_below_refused(size: int) -> None:
    pruner = MagnitudePruner(dense(keras_3, np.ones((size, 1))))
    (unit,) = pruner.units
    assert pruner.mask(unit, 1 / size).sum() == 1
    with pytest.raises(ValueError, match=f"less than one of the {size} weights of 'dense0'; give") as raised:
        pruner.mask(unit, 0.999 / size)
    assert pruner.mask(unit, instead(raised.value)).sum() == 1


def instead(error: ValueError) -> float:
    """The keep ratio that an error message suggests."""
    return float(str(error).split("give ")[1].split(" or more")[0])


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, float("nan"), "half", None])
def test_no_keep_ratio(keep) -> None:
    pruner = MagnitudePruner(case("keras", "dense").model)
    with pytest.raises(ValueError, match=r"keep ratio of 'dense1' is .* in \(0, 1\]"):
        pruner.mask(pruner.units[0], keep)


# ---------------------------------------------------------------------------------------------------------- applying

APPLIED = ["conv2d", "nested_twice", "separable2d", "shared_layer", "conv1d_transpose", "batchnorm"]


@pytest.mark.parametrize("name", APPLIED)
def test_applied_plans_have_the_zeros_and_agree_with_masked_ones(keras_module, name: str) -> None:
    this = case(keras_module.__name__, name)
    before = [array.copy() for array in this.model.get_weights()]
    pruner = MagnitudePruner(this.model)
    plan = half(pruner)
    assert plan.of == WEIGHTS and pruner.widths(plan) == tuple(unit.size // 2 for unit in pruner.units)
    pruned = pruner.apply(plan)
    assert {unit.name: kept(pruned, unit.name) for unit in pruner.units} == {
        unit.name: unit.size // 2 for unit in pruner.units
    }
    assert difference(outputs(pruned, this.inputs), outputs(plan.masked(this.model), this.inputs)) == 0
    assert difference(outputs(pruned, this.inputs), outputs(this.model, this.inputs)) > 0.01
    assert type(pruned).__module__.split(".")[0] == keras_module.__name__
    assert all(map(np.array_equal, this.model.get_weights(), before))


def test_the_whole_plan_is_the_model(keras_module) -> None:
    this = case(keras_module.__name__, "residual")
    pruner = MagnitudePruner(this.model)
    whole = pruner.apply(pruner.plan(pruner.full))
    assert all(map(np.array_equal, whole.get_weights(), this.model.get_weights()))


def test_other_weights_may_be_applied(keras_module) -> None:
    this = case(keras_module.__name__, "dense")
    pruner = MagnitudePruner(this.model)
    plan = half(pruner)
    doubled = {layer: tuple(2 * array for array in arrays) for layer, arrays in this.weights.items()}
    sliced = pruner.sliced(plan, doubled)
    mask = plan["dense1"].reshape(7, 9)
    assert np.array_equal(sliced["dense1"][0], np.where(mask, 2 * this.weights["dense1"][0], 0))
    assert np.array_equal(sliced["dense1"][1], 2 * this.weights["dense1"][1])
    assert np.array_equal(pruner.apply(plan, sliced).get_layer("dense1").get_weights()[0], sliced["dense1"][0])


def test_frozen_layers_are_left_alone(keras_module) -> None:
    pruner = MagnitudePruner(case(keras_module.__name__, "conv2d").model, frozen=["conv2", "head"])
    assert [unit.name for unit in pruner.units] == ["conv1", "conv3"]
    smaller = pruner.apply(half(pruner))
    assert [kept(smaller, name) for name in ("conv1", "conv2", "conv3", "head")] == [108, 144, 189, 35]


def test_masks_say_where(keras_module) -> None:
    this = case(keras_module.__name__, "separable2d")
    pruner = MagnitudePruner(this.model)
    plan = half(pruner)
    found = masks(this.graph, plan)
    assert {layer: (index, mask.shape) for layer, (index, mask) in found.items()} == {
        "separable1": (1, (1, 1, 3, 6)),
        "separable2": (1, (1, 1, 12, 7)),
        "separable3": (1, (1, 1, 7, 5)),
        "head": (0, (5, 5)),
    }
    assert all((mask.reshape(-1) == plan[layer]).all() for layer, (_, mask) in found.items())


def test_a_plan_need_not_name_every_kernel() -> None:
    this = case("keras", "dense")
    plan = Plan({"dense2": np.arange(54) < 9}, of=WEIGHTS)
    assert list(masks(this.graph, plan)) == ["dense2"]
    new = zeroed(this.graph, plan, this.weights)
    assert new["dense1"] is this.weights["dense1"] and np.count_nonzero(new["dense2"][0]) == 9
    assert this.weights["dense2"][0].all()


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan({"dense1": [True] * 9}), "plan is of channels, where one of weights is expected"),
        (Plan({"nowhere": [True] * 9}, WEIGHTS), "mask of 9 for unit 'nowhere', but the model has no such kernel"),
        (Plan({"dense1": [True] * 9}, WEIGHTS), "mask of 9 for unit 'dense1', but the model has a kernel of 63"),
    ],
)
def test_a_plan_of_another_network_or_method_is_refused(plan: Plan, says: str) -> None:
    this = case("keras", "dense")
    for use in (lambda: masks(this.graph, plan), lambda: zeroed(this.graph, plan, this.weights)):
        with pytest.raises(ValueError, match=says):
            use()


def test_depthwise_kernels_are_no_units_of_a_plan() -> None:
    with pytest.raises(ValueError, match="'tripling', but the model has no such kernel"):
        masks(case("keras", "depthwise").graph, Plan({"tripling": [True] * 162}, WEIGHTS))


# ---------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("min_keep", [0, -0.5, 1.01, "half", float("nan"), True])
def test_bad_min_keep(min_keep) -> None:
    with pytest.raises(ValueError, match=r"min_keep is .* in \(0, 1\]"):
        MagnitudePruner(case("keras", "dense").model, min_keep=min_keep)


@pytest.mark.parametrize("size", [7, 49, 9999, 30000])
def test_a_min_keep_below_one_weight_says_which_is_not(size: int) -> None:
    model = dense(keras_3, np.ones((size, 1)))
    with pytest.raises(ValueError, match=f"min_keep is .*less than one of the {size} weights of 'dense0'") as raised:
        MagnitudePruner(model, min_keep=0.999 / size)
    for least in (instead(raised.value), 1 / size):
        assert MagnitudePruner(model, min_keep=least).units[0].widths[0] in (1, 2)


def test_the_papers_bound_keeps_one_weight_at_least() -> None:
    assert MagnitudePruner(dense(keras_3, np.ones((2, 3)))).units[0].widths[0] == 1


def test_an_unknown_frozen_layer_gets_a_suggestion(keras_module) -> None:
    model = case(keras_module.__name__, "functional_in_functional").model
    with pytest.raises(ValueError, match="'conv2'.*did you mean 'encoder/conv2'"):
        MagnitudePruner(model, frozen=["conv2"])


def test_a_model_in_which_nothing_can_go_says_why(keras_module) -> None:
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(image))
    with pytest.raises(UnsupportedModel, match="of 0 convolution and Dense layers.*cannot make it smaller"):
        MagnitudePruner(keras_module.Model(image, x))
    model = case(keras_module.__name__, "dense").model
    with pytest.raises(UnsupportedModel, match="of 3 convolution and Dense layers 0 are not frozen"):
        MagnitudePruner(model, frozen=["dense1", "dense2", "head"])
    with pytest.raises(UnsupportedModel, match="3 are not frozen, with min_keep=1.0"):
        MagnitudePruner(model, min_keep=1.0)


# --------------------------------------------------------------------------------------------------- one threshold


def by_force(pruner: MagnitudePruner, cost, limit: float, normalisation: float, bounded: bool) -> tuple[int, ...]:
    """The widths of `threshold_widths`, by trying every threshold."""
    kernels = [np.abs(pruner.kernels[unit.name]) for unit in pruner.units]
    kernels = [kernel / (kernel**2).mean() ** (normalisation / 2) for kernel in kernels]
    plans = []
    for threshold in sorted({value for kernel in kernels for value in kernel[kernel > 0].tolist()}):
        left = [int((kernel >= threshold * (1 - 1e-6)).sum()) for kernel in kernels]
        if bounded:
            pairs = zip(left, pruner.units, strict=True)
            plans.append(tuple(min(unit.widths, key=lambda w, n=n: (abs(w - n), w)) for n, unit in pairs))
        else:
            plans.append(tuple(max(1, n) for n in left))
    return next((plan for plan in plans if cost(plan) <= limit), plans[-1])


@pytest.fixture(scope="module")
def three_kernels() -> list[MagnitudePruner]:
    """Kernels of unlike size and scale, with zeros; in the second network many weights are equal."""
    rng = np.random.default_rng(0)
    scales = [((6, 40), 0.3), ((40, 7), 1.0), ((7, 3), 2.0)]
    kernels = [rng.normal(0, scale, shape).astype(np.float32) for shape, scale in scales]
    kernels[1][:, 2] = 0
    models = dense(keras_3, *kernels), dense(keras_3, *(np.round(2 * kernel) / 2 for kernel in kernels))
    return [MagnitudePruner(model, min_keep=0.1) for model in models]


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("network, normalisation", [(0, 0.0), (1, 0.0), (0, 0.5), (0, 1.0)])
def test_one_threshold_for_all(three_kernels, network: int, normalisation: float, bounded: bool) -> None:
    pruner = three_kernels[network]
    rng, found = np.random.default_rng(1), set()
    for _ in range(12):
        prices = rng.uniform(0, 2, 3)
        cost = lambda widths, prices=prices: float(prices @ np.array(widths))  # noqa: E731
        limit = rng.uniform(0, 1) * cost(pruner.full)
        widths = pruner.threshold_widths(cost, limit, normalisation, bounded)
        assert widths == by_force(pruner, cost, limit, normalisation, bounded)
        assert all(type(width) is int for width in widths)
        found.add(widths)
    assert len(found) > 3
    if normalisation == 0:
        least = min(min(w / u.size for w, u in zip(plan, pruner.units, strict=True)) for plan in found)
        assert (least < 0.1) != bounded


def test_one_threshold_where_all_or_nothing_fits(three_kernels) -> None:
    pruner = three_kernels[0]
    assert pruner.threshold_widths(sum, sum(pruner.full)) == pruner.full
    assert pruner.threshold_widths(sum, 0) == tuple(unit.widths[0] for unit in pruner.units)
    assert pruner.threshold_widths(sum, 0, bounded=False) == (1, 1, 1)


def test_an_unbounded_threshold_keeps_the_largest_weights(three_kernels) -> None:
    """All kept weights are larger than all dropped ones, over all kernels."""
    pruner = three_kernels[0]
    plan = pruner.plan(pruner.threshold_widths(sum, 0.5 * sum(pruner.full), bounded=False))
    stay = np.concatenate([np.abs(pruner.kernels[name]).reshape(-1)[mask] for name, mask in plan.items()])
    go = np.concatenate([np.abs(pruner.kernels[name]).reshape(-1)[~mask] for name, mask in plan.items()])
    assert stay.min() > go.max() and len(stay) == sum(pruner.full) // 2


def test_the_first_plans_of_a_search_have_rising_normalisation(three_kernels) -> None:
    """With more normalisation the kernel of small weights keeps more, and that of large weights less."""
    pruner = three_kernels[0]
    plans = [threshold(sum, 0.5 * sum(pruner.full)) for threshold in pruner.thresholds()]
    assert plans[0] == pruner.threshold_widths(sum, 0.5 * sum(pruner.full)) and len(plans) == 4
    small, _, large = zip(*plans, strict=True)
    assert list(small) == sorted(set(small)) and list(large) == sorted(large, reverse=True)
    assert all(0.45 < sum(plan) / sum(pruner.full) <= 0.5 for plan in plans)
    alike = pruner.threshold_widths(sum, 0.5 * sum(pruner.full), normalisation=1.0)
    assert np.ptp(np.divide(alike, pruner.full)) < 0.2


# -------------------------------------------------------------------------------------------------------- candidates

# In the Keras whose file is the harder one to read, as in tests/tflite/test_candidate.py.
TIED = {
    "batchnorm": tf_keras,
    "conv2d_transpose": keras_3,
    "conv3d": keras_3,
    "dense_after_flatten": tf_keras,
    "separable2d": keras_3,
    "shared_on_two_branches": tf_keras,
}


def kernels_in(tflite: bytes) -> list:
    """(shape, number of nonzero weights) of every constant with more than one axis, without duplicates."""
    file = unpack(tflite)
    constants = ((t, file.buffers[t.buffer].data) for t in file.subgraphs[0].tensors if t.type == 0)
    found = [(tuple(t.shape), np.count_nonzero(data.view(np.float32))) for t, data in constants if data is not None]
    return sorted({(shape, count) for shape, count in found if len(shape) > 1})


@pytest.mark.parametrize("name", TIED)
def test_candidates_are_the_converters(name: str) -> None:
    model = toys.TOYS[name].build(TIED[name])
    pruner, inputs = MagnitudePruner(model), toys.structured(model, toys.random_inputs(model))
    candidates = Candidates(pruner)
    assert not candidates.shapes.places  # nothing becomes narrower
    plan = half(pruner)
    pruned = pruner.apply(plan)
    candidate = candidates(plan, pruner.sliced(plan))
    assert kernels_in(candidate) == kernels_in(convert(pruned)) != kernels_in(convert(model))
    assert agreement.max_difference(pruned, candidate, inputs) <= 1e-4
    assert agreement.max_difference(model, candidate, inputs) > 1e-2
