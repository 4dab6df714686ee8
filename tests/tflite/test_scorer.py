"""Running files in worker processes: the runtime's own outputs, whatever happens to a worker, and what goes wrong."""

import contextlib
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from amc_tf.errors import AmcError, ConversionError
from amc_tf.system import json_lines
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.runtime import shared_dataset, worker_pool
from amc_tf.tflite.runtime.scorer import Scorer, outputs
from tests.toys import randomized
from tests.waiting import GONE_WITHIN, wait_for

ROOT = Path(__file__).parents[2]
EXAMPLES = 200


@pytest.fixture(scope="module")
def net():
    import keras

    layers = keras.layers
    chain = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(5)]
    return randomized(keras.Sequential([keras.Input((8, 8, 3)), *chain]))


@pytest.fixture(scope="module")
def tflite(net) -> bytes:
    return convert(net)


@pytest.fixture(scope="module")
def two_ended() -> bytes:
    """Inputs (2,) and (3,), outputs (4,) and (5,): every end by its shape."""
    import keras

    layers = keras.layers
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    both = layers.Concatenate()([left, right])
    ends = [layers.Dense(4, name="zebra")(both), layers.Dense(5, name="ape")(both)]
    return convert(randomized(keras.Model([left, right], ends)))


@pytest.fixture(scope="module")
def slow() -> bytes:
    """Some 10 ms an example."""
    import keras

    chain = [keras.layers.Conv2D(64, 3, padding="same") for _ in range(3)]
    pool = keras.layers.GlobalAveragePooling2D()
    return convert(randomized(keras.Sequential([keras.Input((64, 64, 8)), *chain, pool])))


@pytest.fixture(scope="module")
def of_four(net) -> bytes:
    """As the converter makes it, without a signature."""
    import tensorflow as tf

    function = tf.function(lambda x: net(x, training=False), autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec((4, 8, 8, 3), tf.float32))
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).random((EXAMPLES, 8, 8, 3), np.float32)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(2) as scorer:
        yield scorer


@pytest.fixture(scope="module")
def shared(scorer, x):
    return scorer.share([x])


def in_process(tflite: bytes, *arrays: np.ndarray, batch: int = 1) -> list[np.ndarray]:
    """The oracle: the runtime in this process, inputs and outputs in the order of the first subgraph."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    rows = []
    for start in range(0, len(arrays[0]), batch):
        for end, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(end["index"], array[start : start + batch].astype(end["dtype"]))
        interpreter.invoke()
        rows.append([interpreter.get_tensor(end["index"]) for end in interpreter.get_output_details()])
    return [np.stack(values) for values in zip(*rows, strict=True)]


def children() -> set[int]:
    """Scorers' workers among the children of this process; processes and threads may end meanwhile."""
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("worker_process.py" in word for word in process.cmdline()):
                found.add(process.pid)
    return found


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def in_thread(call) -> tuple[threading.Thread, list]:
    """A thread that runs `call`, and a list that its result or error ends in."""
    found: list = []

    def work():
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, found


@pytest.mark.parametrize("workers", [1, 3])
def test_outputs_are_the_runtimes_own_to_the_bit(tflite, x, workers):
    expected = in_process(tflite, x)
    with Scorer(workers) as scorer, scorer.share([x]) as shared, scorer.load(tflite, shared) as loaded:
        for start, stop in [(0, EXAMPLES), (0, 1), (EXAMPLES - 1, EXAMPLES), (13, 152)]:
            (found,) = loaded.run(start, stop)
            np.testing.assert_array_equal(found, expected[0][start:stop])
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], expected[0])


def test_predictions_are_those_of_keras(net, tflite, scorer, shared, x):
    (found,) = outputs(scorer.run(tflite, shared))
    predictions = np.argmax(net.predict(x, verbose=0), -1)
    assert len(set(predictions)) > 1
    np.testing.assert_array_equal(np.argmax(found, -1), predictions)


def test_inputs_and_outputs_are_those_of_the_signature(two_ended, scorer):
    draw = np.random.default_rng(1).normal
    left, right = draw(size=(EXAMPLES, 2)).astype("float32"), draw(size=(EXAMPLES, 3)).astype("float32")
    expected = in_process(two_ended, left, right)
    file = unpack(two_ended)
    graph = file.subgraphs[0]
    graph.inputs, graph.outputs = graph.inputs[::-1].copy(), graph.outputs[::-1].copy()
    with scorer.share([left, right]) as shared:
        for data in (two_ended, pack(file)):
            found = scorer.run(data, shared)
            assert [array.shape for array in found] == [(EXAMPLES, 1, 4), (EXAMPLES, 1, 5)]
            for got, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_several_examples_a_step_and_no_signature(of_four, scorer, shared, x):
    assert not unpack(of_four).signatureDefs
    (expected,) = in_process(of_four, x, batch=4)
    (found,) = scorer.run(of_four, shared)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (EXAMPLES // 4, 4, 5)
    np.testing.assert_array_equal(scorer.run(of_four, shared, 6, 18)[0], in_process(of_four, x[6:18], batch=4)[0])
    np.testing.assert_array_equal(outputs([found])[0], expected.reshape(EXAMPLES, 5))


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int64"])
def test_examples_of_any_type_of_numbers_are_cast(tflite, scorer, x, dtype):
    raw = (x * 255).astype(dtype)
    with scorer.share([raw]) as shared:
        assert shared.file.path.stat().st_size == raw.nbytes  # not as many as float32
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, raw)[0])


def test_no_state_goes_from_one_step_to_the_next(scorer):
    """The converter makes of an LSTM, on this way, an operator that remembers; in Keras it does not."""
    import tensorflow as tf
    import tf_keras

    net = tf_keras.Sequential([tf_keras.Input((6, 3), batch_size=1), tf_keras.layers.LSTM(4)])
    remembering = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    same = np.ones((8, 6, 3), np.float32)
    assert np.ptp(in_process(remembering, same)[0], axis=0).any()
    with scorer.share([same]) as shared:
        (found,) = outputs(scorer.run(remembering, shared))
    np.testing.assert_allclose(found, net.predict(same, batch_size=1, verbose=0), atol=1e-5)


def test_examples_too_many_to_be_written_at_once(tflite, scorer, x, monkeypatch):
    monkeypatch.setattr(shared_dataset, "_BYTES_AT_ONCE", 7 * x[0].nbytes)
    with scorer.share([x[::-1]]) as shared:
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, x[::-1])[0])


def test_no_job_is_so_long_that_its_worker_seems_to_hang(of_four, scorer):
    with scorer.share([np.zeros((4000, 8, 8, 3), np.uint8)]) as shared, scorer.load(of_four, shared) as loaded:
        parts = loaded._parts(2, 3998)
    assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
    assert (parts[0][0], parts[-1][1]) == (2, 3998)
    assert all(0 < stop - start <= 128 and (stop - start) % 4 == 0 for start, stop in parts)


def test_runs_of_several_threads_do_not_mix(tflite, of_four, scorer, shared, x):
    expected = {tflite: in_process(tflite, x)[0], of_four: in_process(of_four, x, batch=4)[0]}
    works = [in_thread(lambda data=data: scorer.run(data, shared)[0]) for data in [tflite, of_four] * 3]
    for (thread, found), data in zip(works, [tflite, of_four] * 3, strict=True):
        thread.join(60)
        np.testing.assert_array_equal(found[0], expected[data])


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="this system does not say what is mapped")
def test_workers_keep_a_loaded_file_and_forget_a_closed_one(tflite, x):
    """Whether the file is mapped says whether it is kept; removed meanwhile, it could not be loaded again."""

    def mapped() -> bool:
        return any(str(path) in place.path for place in worker.memory_maps())

    before = children()
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        with scorer.load(tflite, shared) as loaded:
            path = loaded._files[1].path
            loaded.run(0, 5)
            worker = psutil.Process(*(children() - before))
            assert mapped()
            path.unlink()
            scorer.run(tflite, shared, 0, 5)
            loaded.run(5, 10)
            assert mapped()
        scorer.run(tflite, shared, 0, 5)
        assert not mapped()
        assert not worker.open_files()


def test_closed_files_are_deleted(tflite, x):
    with Scorer(1) as scorer:
        with scorer.share([x]) as shared:
            scorer.run(tflite, shared)
            folder = shared.file.path.parent
        before = set(folder.iterdir())
        for _ in range(3):
            with scorer.share([x]) as shared:
                scorer.run(tflite, shared)
                file = weakref.ref(shared.file)
        wait_for(lambda: set(folder.iterdir()) <= before)
        wait_for(lambda: file() is None)  # even the last, while there is no next job


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="this system does not say what is mapped")
def test_a_worker_has_not_loaded_tensorflow(scorer, tflite, shared):
    scorer.run(tflite, shared)
    found = []
    for worker in children():  # those of earlier tests may end meanwhile
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append([place.path for place in psutil.Process(worker).memory_maps()])
    assert any("ai_edge_litert" in path for maps in found for path in maps)
    assert not any(f"{os.sep}tensorflow{os.sep}" in path for maps in found for path in maps)


def test_the_work_of_a_killed_worker_is_done_again(slow, caplog):
    examples = np.random.default_rng(2).random((60, 64, 64, 8), np.float32)
    before = children()
    with Scorer(2) as scorer, scorer.share([examples]) as shared:
        scorer.run(slow, shared, 0, 2)  # the workers are up
        thread, found = in_thread(lambda: scorer.run(slow, shared)[0])
        time.sleep(0.05)
        os.kill(min(children() - before), signal.SIGKILL)
        thread.join(60)
    np.testing.assert_array_equal(found[0], in_process(slow, examples)[0])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.name == "amc_tf.tflite.runtime.worker_pool"
    assert re.search(r"on the examples \d+ to \d+ was killed by SIGKILL .*; another one does", record.getMessage())


def test_a_worker_that_hangs_counts_as_dead(tflite, x, caplog):
    before = children()
    with Scorer(1, timeout=2.0) as scorer, scorer.share([x]) as shared:
        scorer.run(tflite, shared, 0, 1)
        (worker,) = children() - before
        psutil.Process(worker).suspend()
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, x)[0])
        assert not alive(worker)
    assert "did not answer within 2 s and was killed" in caplog.text


def test_a_worker_that_does_not_even_read_counts_as_dead(tflite, shared, tmp_path, monkeypatch, caplog):
    """A request may be longer than what a pipe takes from who writes to nobody."""
    idle = tmp_path / "idle.py"
    idle.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(worker_pool, "_PROGRAM", idle)
    with Scorer(1, timeout=0.5) as scorer, scorer.load(tflite, shared) as loaded:
        loaded._request["padding"] = "x" * 1_000_000
        with pytest.raises(ConversionError, match=r"the last of which did not answer within 0\.5 s and was killed"):
            loaded.run(0, 1)


def test_a_worker_that_closes_its_output_counts_as_dead(tflite, shared, tmp_path, monkeypatch):
    mute = tmp_path / "mute.py"
    mute.write_text("import os, sys, time; os.close(int(sys.argv[1])); os.write(2, b'no more'); time.sleep(600)")
    monkeypatch.setattr(worker_pool, "_PROGRAM", mute)
    with (
        Scorer(1, timeout=0.5) as scorer,
        pytest.raises(ConversionError, match=r"the last of which closed its output and was killed \(no more\)"),
    ):
        scorer.run(tflite, shared, 0, 1)


def test_a_worker_has_all_its_time_for_each_request_and_none_runs_out_between_them(slow):
    examples = np.random.default_rng(2).random((60, 64, 64, 8), np.float32)
    with Scorer(1, timeout=1.5) as scorer, scorer.share([examples]) as shared:
        scorer.run(slow, shared, 0, 1)
        (worker,) = scorer._pool._alive
        begun = time.monotonic()
        while time.monotonic() < begun + 2.0:
            scorer.run(slow, shared)
        time.sleep(3.0)
        scorer.run(slow, shared)
        assert scorer._pool._alive == {worker}


def test_without_an_end_to_its_patience_a_scorer_runs(tflite, shared, x):
    with Scorer(1, timeout=float("inf")) as scorer:
        np.testing.assert_array_equal(scorer.run(tflite, shared, 0, 3)[0], in_process(tflite, x[:3])[0])


def test_a_file_that_every_worker_dies_of_is_given_up(tflite, shared, x, tmp_path, monkeypatch, caplog):
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os; os.read(0, 1); os.write(2, b'out of luck\\nINFO: Created it.\\n'); os._exit(1)")
    program = worker_pool._PROGRAM
    monkeypatch.setattr(worker_pool, "_PROGRAM", deadly)
    with Scorer(1) as scorer:
        with pytest.raises(
            ConversionError, match=r"cost 3 workers, the last of which ended with exit status 1 \(out of"
        ):
            scorer.run(tflite, shared)
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
        monkeypatch.setattr(worker_pool, "_PROGRAM", program)
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, x)[0])


def test_a_truncated_file_is_damaged_wherever_it_was_cut(tflite, scorer, shared):
    for length in range(8, len(tflite), 41):
        with pytest.raises(ConversionError, match="damaged, perhaps cut short"):
            scorer.run(tflite[:length], shared)
    with pytest.raises(ConversionError, match=r"is no \.tflite"):
        scorer.run(tflite[:5], shared)


def test_rubbish_in_a_file_costs_no_more_than_its_run(tflite, scorer, shared, x):
    """The runtime may refuse it, compute something else or die; this process and the next run do not care."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        data = bytearray(tflite)
        for place in rng.integers(8, len(data), 40):
            data[place] = rng.integers(256)
        try:
            scorer.run(bytes(data), shared, 0, 1)
        except ConversionError as error:
            assert "\n" not in str(error)
    np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, x)[0])


def test_an_operator_that_the_runtime_lacks_is_told(tflite, scorer, shared):
    file = unpack(tflite)
    code = file.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "FlexNothing"
    with pytest.raises(ConversionError, match="does not run in ai-edge-litert"):
        scorer.run(pack(file), shared)


@pytest.mark.parametrize(
    "shapes, dtype, says",
    [
        ([(8, 8, 3)] * 2, "float32", r"has 1 inputs, but the examples have 2"),
        ([(8, 9, 3)], "float32", r"takes examples of shape \(8, 8, 3\), but the shared ones have shape \(8, 9, 3\)"),
    ],
)
def test_a_file_of_another_model_is_refused(tflite, scorer, shapes, dtype, says):
    with (
        scorer.share([np.zeros((4, *shape), dtype) for shape in shapes]) as shared,
        pytest.raises(ConversionError, match=says),
    ):
        scorer.run(tflite, shared)


def test_integers_may_not_change_their_value(scorer):
    import keras

    table = convert(randomized(keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(9, 2)])))
    tokens = np.arange(9).reshape(3, 3)
    with scorer.share([tokens]) as shared:
        np.testing.assert_array_equal(scorer.run(table, shared)[0], in_process(table, tokens)[0])
    for wrong, says in [
        (tokens + 2**40, "int64 from 1099511627776 to"),
        (tokens - 2**40, "int64 from -1099511627776 to"),
        (tokens * 0.5, "float64; convert"),
    ]:
        with scorer.share([wrong]) as shared, pytest.raises(ConversionError, match=f"type int32, which .* {says}"):
            scorer.run(table, shared)


@pytest.mark.parametrize(
    "inputs, says",
    [
        ([], "at least one array"),
        ([np.zeros((0, 2))], r"\[\(0, 2\)\]"),
        ([np.zeros((3, 2)), np.zeros((4, 2))], "same number of examples"),
        ([np.array(1.0)], "at least one array"),
        ([np.array(["a"])], "Input 0 is of type <U1"),
    ],
)
def test_what_cannot_be_shared_is_refused(scorer, inputs, says):
    with pytest.raises(ValueError, match=says):
        scorer.share(inputs)


@pytest.mark.parametrize("start, stop", [(0, 0), (-4, 4), (4, EXAMPLES + 4), (8, 4), (0, 6)])
def test_parts_that_there_are_not_are_refused(of_four, scorer, shared, start, stop):
    with pytest.raises(ValueError, match="multiple of the file's batch of 4"):
        scorer.run(of_four, shared, start, stop)


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"workers": True}, {"workers": 1.5}, {"timeout": 0}])
def test_wrong_arguments_get_one_sentence(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is .* expected"):
        Scorer(**arguments)


def test_without_room_there_is_a_way_out(tflite, tmp_path):
    """A limit on the size of files is the full disk that a test may have."""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite)
    code = f"""
import resource, sys
import numpy as np
sys.path.insert(0, {str(ROOT)!r})
from amc_tf.errors import RunDirError
from amc_tf.tflite.runtime.scorer import Scorer
with Scorer(1) as scorer:
    shared = scorer.share([np.zeros((1, 8, 8, 3), "float32")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    for call in (lambda: scorer.share([np.zeros((10, 1000), "float32")]), lambda: scorer.run({str(path)!r}, shared)):
        try:
            call()
        except RunDirError as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line, what in zip(lines, ["40000 bytes of examples", f"a .tflite of {len(tflite)} bytes"], strict=True):
        assert line.startswith(f"There is no room for {what} among the temporary files in '/")
        assert line.endswith("free space there, or name another folder in TMPDIR.")


def test_what_is_closed_says_so(tflite, x):
    scorer = Scorer(1)
    shared = scorer.share([x])
    loaded, other = scorer.load(tflite, shared), scorer.load(tflite, shared)
    other.close()
    with pytest.raises(ValueError, match=r"\.tflite is closed"):
        other.run()
    shared.close()
    np.testing.assert_array_equal(loaded.run(0, 3)[0], in_process(tflite, x[:3])[0])  # it holds them itself
    with pytest.raises(ValueError, match="examples are closed"):
        scorer.run(tflite, shared)
    scorer.close()
    scorer.close()
    for call in (lambda: scorer.share([x]), lambda: scorer.run(tflite, shared), loaded.run):
        with pytest.raises(ValueError, match="scorer is closed"):
            call()


def test_closing_fails_the_runs_of_other_threads_and_ends_the_workers(slow, caplog):
    before = children()
    scorer = Scorer(2)
    shared = scorer.share([np.zeros((500, 64, 64, 8), np.uint8)])
    thread, found = in_thread(lambda: scorer.run(slow, shared))
    workers = wait_for(lambda: children() - before)
    scorer.close()
    thread.join(GONE_WITHIN)
    assert isinstance(found[0], AmcError) and "closed while" in str(found[0])
    wait_for(lambda: not any(alive(worker) for worker in workers) and not children() - before)
    assert not caplog.records  # nothing went wrong


def test_a_forgotten_scorer_ends_its_workers(tflite, x):
    before, threads = children(), threading.active_count()
    scorer = Scorer(1)
    scorer.run(tflite, scorer.share([x]), 0, 1)
    assert children() - before
    del scorer
    gc.collect()
    wait_for(lambda: not children() - before and threading.active_count() <= threads)


def test_ctrl_c_leaves_a_scorer_that_works(slow, caplog, monkeypatch):
    asked = []
    ask = worker_pool.Worker.ask
    monkeypatch.setattr(worker_pool.Worker, "ask", lambda self, *request: asked.append(request) or ask(self, *request))
    examples = np.random.default_rng(2).integers(0, 256, (1000, 64, 64, 8), np.uint8)
    before = children()
    with Scorer(1) as scorer, scorer.share([examples]) as shared:
        scorer.run(slow, shared, 0, 1)
        (worker,) = children() - before
        assert os.getpgid(worker) != os.getpgid(0)  # a terminal sends it to the whole group
        timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            scorer.run(slow, shared)
        found = scorer.run(slow, shared, 0, 3)
    np.testing.assert_array_equal(found[0], in_process(slow, examples[:3])[0])
    assert len(asked) < 1 + 8 + 3  # jobs of the three runs: what nobody waits for is left out
    assert not caplog.records  # the worker did not notice


def test_what_is_urgent_does_not_wait_for_what_is_not(tflite, slow, x):
    """As BatchNorm statistics, without which the next candidate cannot be made while one is scored."""
    many = np.random.default_rng(0).random((64, 64, 64, 8), np.float32)
    with Scorer(1) as scorer, scorer.share([many]) as long, scorer.share([x[:2]]) as short:
        scorer.run(tflite, short)  # the worker is there
        waiting = threading.Thread(target=scorer.run, args=(slow, long))
        waiting.start()
        time.sleep(0.05)
        scorer.run(tflite, short, urgent=True)
        assert waiting.is_alive()
        scorer.run(tflite, short)
        waiting.join(1.0)  # done but for the thread's own end
        assert not waiting.is_alive()


def test_a_worker_that_cannot_be_started_fails_its_run_and_no_later_one(tflite, x, monkeypatch):
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        expected = scorer.run(tflite, shared)
        (worker,) = scorer._pool._alive
        os.kill(worker.pid, signal.SIGKILL)

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(json_lines.subprocess, "Popen", fail)
            with pytest.raises(AmcError, match="No worker could be started"):
                scorer.run(tflite, shared)
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], expected[0])


def test_what_python_prints_as_it_starts_is_no_reply(tflite, x, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("print('noise', flush=True)\nprint('and no end', end='', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        np.testing.assert_array_equal(scorer.run(tflite, shared)[0], in_process(tflite, x)[0])
