"""The whole way with single weights: zeros that survive it, and what is said of them."""

import json
import sys
import zlib

import numpy as np
import pytest

import amc_tf
from amc_tf.graph import keras_reader
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import unpack
from tests import small

pytestmark = pytest.mark.usefixtures("agent_at_once", "shapes_once", "eager_training")


def run(model, run_dir, **changes):
    arguments = {
        "method": "magnitude", "target": "params", "budget": 0.4, "episodes": 3, "calibration_size": 32,
        "reward_size": 64, "run_dir": run_dir, "verbose": False, "report": False,
        "train_data": small.labelled(model, 96),
    }  # fmt: skip
    return amc_tf.compress(model, **(arguments | changes))


@pytest.fixture(scope="module")
def done(keras_module, tmp_path_factory, agent_at_once, shapes_once, eager_training):
    """A network pruned in two stages, with its Result."""
    model = small.plain(keras_module)
    folder = tmp_path_factory.mktemp("weights") / "run"
    return model, run(model, folder, stages=(0.7,), finetune_epochs=2)


def left(model) -> dict[str, int]:
    """Weights of each kernel that are not zero."""
    return {
        layer: int(np.count_nonzero(arrays[0]))
        for layer, arrays in keras_reader.read(model)[1].items()
        if arrays and arrays[0].ndim > 1
    }


def test_zeros_survive_the_whole_way(done, keras_module):
    _, result = done
    wanted = {layer: int(mask.sum()) for layer, mask in result.plan.items()}
    assert min(mask.mean() for mask in result.plan.values()) < 0.5
    assert left(result.model) == wanted
    loaded = keras_module.models.load_model(result.run_dir / "model.keras", compile=False)
    assert left(loaded) == wanted
    for file in (result.tflite.read_bytes(), convert(loaded)):  # zeros left out, and left in
        model = unpack(file)
        held = {}
        for tensor in model.subgraphs[0].tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(tensor.shape if tensor.shape is not None else ()) > 1:
                held[int(np.prod(tensor.shape))] = int(np.count_nonzero(data.view(np.float32)))
        sizes = {layer: mask.size for layer, mask in result.plan.items()}
        assert {name: held[size] for name, size in sizes.items()} == wanted


def test_each_stage_prunes_what_the_one_before_left(done):
    model, result = done
    first = amc_tf.Plan.load(result.run_dir / "stage-1" / "plan.json")
    assert all(not (result.plan[name] & ~first[name]).any() for name in first)
    stored = json.loads((result.run_dir / "stage-1" / "result.json").read_text())
    assert stored["compressed"]["params"] <= 0.7 * model.count_params()
    assert result.base.params == model.count_params() and result.compressed.params <= 0.4 * result.base.params
    written = json.loads((result.run_dir / "result.json").read_text())
    assert written.items() >= json.loads(json.dumps(result.summary())).items()


def test_the_same_call_again_trains_nothing_twice_and_says_what_zeros_bring(done, monkeypatch, capsys):
    model, result = done
    monkeypatch.setattr("amc_tf.pipeline.finetuning.finetune", None)
    again = run(model, result.run_dir, stages=(0.7,), finetune_epochs=2, verbose=True)
    assert again.plan == result.plan and again.compressed == result.compressed
    assert all(np.array_equal(a, b) for a, b in zip(again.model.get_weights(), result.model.get_weights(), strict=True))
    assert "not the network faster" in capsys.readouterr().err


def test_counts_are_those_of_the_model_and_the_file(done):
    model, result = done
    zeros = sum(array.size - np.count_nonzero(array) for array in result.model.get_weights() if array.ndim > 1)
    assert result.compressed.params == model.count_params() - zeros
    assert result.compressed.macs == result.base.macs  # a zero is multiplied like any other
    file = result.tflite.read_bytes()
    assert result.compressed.size_bytes == len(file) < result.base.size_bytes
    assert result.compressed.gzip_bytes == len(zlib.compress(file, 9))


def test_the_accuracy_is_that_of_the_trained_model_and_the_one_before_stands_beside_it(done):
    model, result = done
    x, y = small.labelled(model, 96)
    assert result.untrained is not None and result.untrained.params == result.compressed.params
    assert result.scored_on == "train_data"
    assert result.difference < 1e-5


def test_analysis_says_the_same(done):
    model, result = done
    assert any("stem" in sentence for sentence in result.obstacles)
    analysis = amc_tf.analyze(model, method="magnitude")
    assert analysis.obstacles == result.obstacles
    assert {line.name for line in analysis.units} == {"stem", "wide", "head"}
    assert set(analysis.budgets()) == {"params", "size"}


def test_a_network_that_holds_the_accuracy(tmp_path):
    import keras

    model = small.network(keras)
    result = run(model, tmp_path / "run", budget=None, max_drop=5, episodes=10)
    best = min(t.outcome.cost for t in result.trials if t.outcome.accuracy >= 0.95 and t.outcome.examples is None)
    assert result.compressed.params == best < result.base.params
    assert result.compressed.accuracy >= 0.95
    x = small.images(96)
    exact = {"train_data": (x, np.asarray(model(x))), "metric": lambda wanted, found: -float(abs(wanted - found).max())}
    with pytest.raises(amc_tf.BudgetError, match="keeps the accuracy within 0 points"):
        run(model, tmp_path / "strict", budget=None, max_drop=0, episodes=1, **exact)


def test_a_budget_in_bytes_is_of_the_file_that_ships(tmp_path):
    import keras

    result = run(small.plain(keras), tmp_path / "run", target="size", budget=0.7, episodes=2)
    assert result.compressed.size_bytes <= 0.7 * result.base.size_bytes + 200  # of alignment


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": "macs"}, "count like all others"),
        ({"round_to": 4}, "round_to"),
        ({"importance": "magnitude_out"}, "importance"),
        ({"min_keep": 1e-6}, "less than one of the"),
        ({"method": "hash"}, "'channel', 'magnitude'"),
        ({"max_drop": 0.5}, "one of the two"),
        ({"budget": None, "max_drop": "half"}, "points"),
        ({"stages": (0.3,)}, "that fall"),
        ({"stages": (0.6,)}, "finetune_epochs"),
        ({"stages": (0.6,), "finetune_epochs": 1, "target": "time"}, "target is .time.; expected one of"),
        ({"finetune_epochs": -1}, "finetune_epochs"),
        ({"finetune_epochs": 1, "train_data": small.images(96)}, "no labels"),
        ({"frozen": ["stem", "wide", "head"]}, "no kernel whose weights may go"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_mistakes_are_refused_in_one_sentence(changes, says, tmp_path):
    import keras

    with pytest.raises((ValueError, amc_tf.UnsupportedModel), match=says) as caught:
        run(small.plain(keras), tmp_path / "run", **changes)
    assert "\n" not in str(caught.value)


def optimizers(monkeypatch) -> list[str]:
    """Names of the optimizers that later trainings use."""
    import amc_tf.pipeline.finetuning as training

    seen, train = [], training.finetune
    monkeypatch.setattr(training, "finetune", lambda model, *a, **k: (
        seen.append(type(getattr(model, "optimizer", None)).__name__), train(model, *a, **k))[1])  # fmt: skip
    return seen


def test_a_compiled_model_is_trained_by_its_own_settings_in_every_stage_also_after_a_stop(tmp_path, monkeypatch):
    import keras

    model = small.plain(keras)
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    arguments = {"stages": (0.7,), "finetune_epochs": 1, "episodes": 1}
    seen = optimizers(monkeypatch)
    whole = run(model, tmp_path / "run", **arguments)
    for file in (tmp_path / "run").glob("finetuned-*.npz"):
        file.write_bytes(file.read_bytes()[:100])  # damaged: as if it had been stopped in the last stage
    again = run(model, tmp_path / "run", **arguments)
    assert seen == ["Adam"] * 3
    pairs = zip(whole.model.get_weights(), again.model.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    with pytest.raises(amc_tf.RunDirError, match="Stage 2 .* cannot go on, because stages before it"):
        run(model, tmp_path / "run", **arguments)
    assert seen[3:] == ["SGD"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_data": (small.images(96), np.full(96, 11))}, "11"),
        ({"stages": "0.7"}, "that fall"),
        ({"stages": (0.7,), "run_dir": 3}, "run_dir"),
    ],
    ids=["label", "no ratio", "no path"],
)
def test_what_cannot_be_trained_is_said_before_the_search(changes, says, tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(sys.modules["amc_tf.pipeline.searching"], "Study", None)
    with pytest.raises((ValueError, TypeError), match=says):
        run(small.plain(keras), **({"run_dir": tmp_path / "run", "finetune_epochs": 1} | changes))
