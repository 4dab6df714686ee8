"""Callbacks: whoever was told of a beginning is told of the end, however it comes."""

from types import SimpleNamespace

import keras
import pytest

import amc_tf
from amc_tf import callbacks
from amc_tf.callbacks import Callback, Callbacks, TensorBoard
from amc_tf.errors import DeviceError
from amc_tf.search.trial import Outcome, Trial
from tests import small

TRIAL = Trial(0, "complete", "base", (8,), {"a": 1.0}, "d", Outcome(0.9, 10, 0.9, 10), 0.5, 1.0)
SEARCH = SimpleNamespace(trials=(TRIAL,), best=None)


class Told(Callback):
    """Writes down what it is told, and raises at one of it."""

    def __init__(self, at=None, error=None):
        self.told, self._at, self._error = [], at, error

    def _hear(self, what):
        self.told.append(what)
        if what == self._at:
            raise self._error

    def on_search_begin(self, logs=None):
        self._hear("begin")

    def on_episode_end(self, episode, logs=None):
        self._hear(episode)

    def on_search_end(self, logs=None):
        assert (logs or {}).get("kind") == "base"  # of the last trial that there was
        self._hear("end")


def test_a_search_that_raises_is_an_end():
    first, second = Told(), Told()
    with pytest.raises(DeviceError, match="gone"), Callbacks([first, second]).of(SEARCH) as told:
        told.episode(TRIAL, None)
        raise DeviceError("gone")
    assert first.told == second.told == ["begin", 0, "end"]


def test_ctrl_c_is_an_end():
    one = Told()
    with pytest.raises(KeyboardInterrupt), Callbacks([one]).of(SEARCH):
        raise KeyboardInterrupt
    assert one.told == ["begin", "end"]


def test_one_that_cannot_begin_ends_those_that_did_and_itself():
    before, failing, after = Told(), Told("begin", OSError("no room")), Told()
    with pytest.raises(OSError, match="no room"), Callbacks([before, failing, after]).of(SEARCH):
        raise AssertionError("not reached")
    assert (before.told, failing.told, after.told) == (["begin", "end"], ["begin", "end"], [])


def test_the_first_error_wins_and_all_are_ended(caplog):
    failing, other = Told("end", OSError("the disk is full")), Told("end", ValueError("late"))
    with pytest.raises(DeviceError, match="gone"), Callbacks([failing, other]).of(SEARCH):
        raise DeviceError("gone")
    assert failing.told == other.told == ["begin", "end"]
    assert "the disk is full" in caplog.text and "late" in caplog.text  # but nothing is kept quiet
    failing.told.clear(), other.told.clear()
    with pytest.raises(OSError, match="the disk is full"), Callbacks([failing, other]).of(SEARCH):
        pass
    assert failing.told == other.told == ["begin", "end"]


def test_scalars_are_written_and_their_file_closed_when_a_search_raises(tmp_path, monkeypatch):
    closed, board = [], TensorBoard(tmp_path)
    with pytest.raises(DeviceError), Callbacks([board]).of(SEARCH) as told:
        writer = board._writer
        close = writer.close
        monkeypatch.setattr(writer, "close", lambda: (closed.append(1), close()))
        told.episode(TRIAL, None)
        raise DeviceError("gone")
    (file,) = tmp_path.iterdir()
    assert closed and b"cost_share" in file.read_bytes()


def test_scalars_that_could_not_begin_do_not_hide_why(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match="file") as raised, Callbacks([TensorBoard(tmp_path / "file" / "x")]).of(SEARCH):
        pass
    assert not isinstance(raised.value, AttributeError)


@pytest.mark.usefixtures("agent_at_once")
def test_compress_ends_its_callbacks_when_the_search_raises(tmp_path):
    network = small.settled(small.network(keras))
    one, failing = Told(), Told(1, ZeroDivisionError("a bug of the caller's"))
    one.on_search_end = lambda logs=None: one.told.append("end")
    with pytest.raises(ZeroDivisionError, match="caller's"):
        amc_tf.compress(
            network, target="macs", budget=0.6, episodes=2, calibration_size=32, reward_size=64, round_to=2,
            verbose=False, report=False, train_data=small.labelled(network, 96), run_dir=tmp_path / "run",
            callbacks=[one, failing, callbacks.EarlyStopping(5)],
        )  # fmt: skip
    assert one.told == ["begin", 0, 1, "end"]
