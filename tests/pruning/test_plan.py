"""Plan: accepted masks, the digest, saving and loading, and refused uses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.pruning.plan import CHANNELS, WEIGHTS, Plan
from tests.graph.cases import case

MASKS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=12).filter(any).map(lambda bits: np.array(bits, dtype=bool)),
    max_size=4,
)


def test_a_plan_is_a_frozen_mapping() -> None:
    mask = np.array([True, False, True])
    plan = Plan({"b": mask, "a": np.array([True])})
    mask[:] = True  # the caller's array is not the plan's
    assert list(plan) == ["a", "b"] and len(plan) == 2 and plan["b"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match="read-only"):
        plan["b"][0] = False
    with pytest.raises(TypeError):
        plan["c"] = mask


def test_keep_ratios() -> None:
    plan = Plan({"a": np.array([True, False, False, False]), "b": np.array([True, True])})
    assert plan.keep == {"a": 0.25, "b": 1.0}
    assert "2 units" in repr(plan) and "0.25" in repr(plan) and "0 units" in repr(Plan({}))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.array([1, 0]), "type int64"),
        (np.array([[True, False]]), r"shape \(1, 2\)"),
        (np.array(True), r"shape \(\)"),
        ([0.5, 1.0], "type float64"),
        (np.zeros(3, bool), "keeps none of 3"),
        (np.zeros(0, bool), "keeps none of 0"),
    ],
)
def test_bad_masks_are_refused(mask, says: str) -> None:
    with pytest.raises(ValueError, match=f"'conv1'.*{says}"):
        Plan({"conv1": mask})


@given(MASKS)
def test_equal_masks_equal_digest(masks) -> None:
    plan = Plan(masks)
    again = Plan({name: masks[name].tolist() for name in reversed(list(masks))})
    assert plan == again and plan.digest == again.digest and hash(plan) == hash(again)


@given(MASKS, MASKS)
def test_unequal_masks_unequal_digest(first, second) -> None:
    same = first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
    assert (Plan(first).digest == Plan(second).digest) == same == (Plan(first) == Plan(second))


def test_the_size_is_part_of_the_digest() -> None:
    assert Plan({"a": [True, False]}).digest != Plan({"a": [True, False, False]}).digest


def test_the_digest_is_the_same_in_every_process_and_version() -> None:
    """It names files and caches that outlive the process."""
    code = "from amc_tf.pruning.plan import Plan; print(Plan({'conv1': [True, False, True], 'b': [True]}).digest)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == Plan({"b": [True], "conv1": [True, False, True]}).digest, done.stderr
    assert done.stdout.startswith("43775f1d651abe6a")


def test_a_plan_of_weights_is_another_than_the_same_of_channels() -> None:
    mask = {"conv1": [True, False, True]}
    assert Plan(mask).of == CHANNELS and Plan(mask, WEIGHTS).of == WEIGHTS
    assert Plan(mask) == Plan(mask, CHANNELS) != Plan(mask, WEIGHTS) == Plan(mask, WEIGHTS)
    assert "1 units of weights" in repr(Plan(mask, WEIGHTS)) and "of channels" in repr(Plan(mask))
    assert Plan(mask, WEIGHTS).digest.startswith("b635fc1a1c547945")  # it names files and caches
    with pytest.raises(ValueError, match="plan is of 'rows'; expected one of 'channels', 'weights'"):
        Plan(mask, "rows")


def test_the_size_of_a_kernel_is_part_of_the_digest() -> None:
    """The bits are packed, and the last byte may have padding."""
    assert Plan({"a": [True, False]}, WEIGHTS).digest != Plan({"a": [True, False, False]}, WEIGHTS).digest


def test_a_plan_is_not_equal_to_other_things() -> None:
    assert Plan({}) != {} and Plan({}) == Plan({})


# ------------------------------------------------------------------------------------------------------------- files


@given(masks=MASKS, of=st.sampled_from([CHANNELS, WEIGHTS]))
def test_saved_and_loaded(tmp_path_factory, masks, of: str) -> None:
    path = tmp_path_factory.getbasetemp() / "plan.json"
    plan = Plan(masks, of)
    plan.save(path)
    loaded = Plan.load(path)
    assert loaded == plan and loaded.of == of and Plan.load(str(path)).digest == plan.digest
    assert all(np.array_equal(loaded[name], plan[name]) for name in plan)


def test_the_file_is_readable_json(tmp_path) -> None:
    Plan({"conv1": [True, False, True]}).save(tmp_path / "plan.json")
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored["version"] == 1 and stored["units"] == {"conv1": {"size": 3, "kept": [0, 2]}}


def test_a_file_of_the_first_version_is_of_channels(tmp_path) -> None:
    stored = {
        "version": 1,
        "digest": "43775f1d651abe6a639e4ce5f95a9a68ff641a908eef41d96ff2a3ac622a8e6f",
        "units": {"b": {"size": 1, "kept": [0]}, "conv1": {"size": 3, "kept": [0, 2]}},
    }
    (tmp_path / "plan.json").write_text(json.dumps(stored))
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.of == CHANNELS and plan == Plan({"conv1": [True, False, True], "b": [True]})


def test_a_million_weights_take_a_bit_each(tmp_path) -> None:
    mask = np.random.default_rng(0).random(10**6) < 0.2
    Plan({"dense": mask}, WEIGHTS).save(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").stat().st_size < 10**6 / 8 * 4 / 3 + 500
    assert np.array_equal(Plan.load(tmp_path / "plan.json")["dense"], mask)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"bits": "p', '"bits": "q'),  # another weight stays
        ('"bits": "p', '"bits": "!'),  # no base64
        ('"bits": "p', '"bits": "pp'),  # of another length
        ('"bits": "', '"bits": "", "was": "'),
        ('"size": 19', '"size": 20'),
        ('"size": 19', '"size": -1'),
        ('"size": 19', '"size": 1.5'),
        ('"size": 19', '"size": "x"'),
        ('"version": 2', '"version": 1'),
    ],
)
def test_damaged_plans_of_weights_are_refused(tmp_path, old: str, new: str) -> None:
    path = tmp_path / "plan.json"
    Plan({"dense": [True, False, True, False, False, True] + [True, True, False] * 4 + [False]}, WEIGHTS).save(path)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match="plan.json (is not a plan|holds another plan than its digest)"):
        Plan.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "units": 3}',
        '{"version": 1, "units": {"a": {}}}',
        '{"version": 1, "units": {"a": {"size": 2, "kept": [5]}}}',
        '{"version": 1, "units": {"a": {"size": "x", "kept": [0]}}}',
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_plan_is_refused(tmp_path, text) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="plan.json is not a plan.*Plan.save"):
        Plan.load(path)


def test_a_plan_of_another_version_is_refused(tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"version": 3, "units": {}}')
    with pytest.raises(ValueError, match="is a plan of version 3, but this amc_tf reads versions 1 and 2"):
        Plan.load(tmp_path / "plan.json")


def test_a_plan_changed_by_hand_is_refused(tmp_path) -> None:
    path = tmp_path / "plan.json"
    Plan({"conv1": [True, False, True]}).save(path)
    path.write_text(path.read_text().replace("0", "1", 1).replace('"size": 3', '"size": 4'))
    with pytest.raises(ValueError, match="plan.json.*digest"):
        Plan.load(path)


# ------------------------------------------------------------------------------------------- a plan and a network


def test_units_that_are_not_named_stay_whole() -> None:
    groups = case("keras", "conv2d").groups
    kept = Plan({"conv2": np.arange(6) < 2}).kept(groups)
    assert kept.tolist() == [True] * 8 + [True] * 2 + [False] * 4 + [True] * (7 + 5)
    assert Plan({}).kept(groups).all()


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"nowhere": [True]}, "mask of 1 for unit 'nowhere', but the model has no such group"),
        ({"conv2": [True] * 5}, "mask of 5 for unit 'conv2', but the model has 6 channels there"),
        ({"head": [True, False, True, True, True]}, "'head' cannot shrink: it is an output of the model"),
    ],
)
def test_a_plan_of_another_network_is_refused(masks, says: str) -> None:
    this = case("keras", "conv2d")
    with pytest.raises(ValueError, match=says):
        Plan(masks).kept(this.groups)
    with pytest.raises(ValueError, match=says):
        Plan(masks).masked(this.model)


def test_a_plan_of_weights_says_nothing_of_channels() -> None:
    this = case("keras", "dense")
    with pytest.raises(ValueError, match="plan is of weights, where one of channels is expected"):
        Plan({"dense1": [True] * 9}, WEIGHTS).kept(this.groups)


def test_a_frozen_unit_may_be_named_when_it_stays_whole() -> None:
    assert Plan({"head": [True] * 5}).kept(case("keras", "conv2d").groups).all()


def test_masked_keeps_the_shape_and_kills_the_channels(keras_module) -> None:
    this = case(keras_module.__name__, "batchnorm")
    masked = Plan({"conv1": np.arange(6) != 2}).masked(this.model)
    kernel, bias = masked.get_layer("conv1").get_weights()
    assert kernel.shape == (3, 3, 3, 6) and not kernel[..., 2].any() and bias[2] == 0
    assert kernel[..., [0, 1, 3, 4, 5]].all() and not masked.get_layer("conv2").get_weights()[0][:, :, 2].any()


def test_masked_by_weights_has_zeros_alone(keras_module) -> None:
    this = case(keras_module.__name__, "batchnorm")
    mask = np.arange(162) % 3 > 0
    masked = Plan({"conv1": mask}, WEIGHTS).masked(this.model)
    kernel, bias = masked.get_layer("conv1").get_weights()
    assert np.array_equal(kernel, np.where(mask.reshape(3, 3, 3, 6), this.weights["conv1"][0], 0))
    rest = zip(masked.get_weights(), this.model.get_weights(), strict=True)
    assert sum(not np.array_equal(new, old) for new, old in rest) == 1
