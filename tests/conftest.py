"""What every test may ask for: a Keras module, the folder of real networks and data; and quiet logs."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before any test imports TensorFlow, and for the processes that tests start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # oracles compare to 1e-5, which TF32 does not keep
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin while they wait for each other

import pytest
from hypothesis import HealthCheck, settings

import amc_tf

if TYPE_CHECKING:
    from tests.standin_adbd import StandIn

for name in amc_tf.__all__:
    getattr(amc_tf, name)  # imports its module, which tests patch by its name in sys.modules

# A shell that starts the tests in the background has them ignore Ctrl-C, and nohup has them ignore a hang-up; some
# tests and their processes need both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Building a Keras model takes longer than hypothesis thinks an example should.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts all tests of one toy together, so that it is built once and in one process."""
    toys: dict[tuple, list[pytest.Item]] = {}
    for item in items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        if "toy" in values:
            toys.setdefault((values["toy"].name, values["keras_name"]), []).append(item)
    together = [item for of_one_toy in toys.values() for item in of_one_toy]
    moved = set(together)
    items[:] = [*together, *(item for item in items if item not in moved)]


@pytest.fixture(scope="session", params=["keras", "tf_keras"])
def keras_module(request: pytest.FixtureRequest) -> ModuleType:
    """Keras 3, then tf_keras. Of the session, so that hypothesis tests may use it."""
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def agent_at_once() -> Iterator[None]:
    """compress() without the agent's process, for tests that are about something else."""
    from tests.search.fakes import AgentAtOnce

    importlib.import_module("amc_tf.pipeline.searching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", AgentAtOnce)
        yield


@pytest.fixture(scope="session")
def kept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests.kept keeps what it has made, for all processes of this run."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    folder /= "kept"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def shapes_once(kept_folder: Path) -> Iterator[None]:
    """Files, shapes, pictures and workers of earlier tests, for tests that are about something else."""
    from tests.kept import keep_files, keep_pictures, keep_shapes, keep_workers

    with pytest.MonkeyPatch.context() as patch, keep_workers(patch):
        keep_files(patch, kept_folder)
        keep_pictures(patch)
        keep_shapes(patch, kept_folder)
        yield


@pytest.fixture(scope="module")
def eager_training() -> Iterator[None]:
    """Trainings that run step by step: for a few steps of small networks their graphs cost far more than they save."""
    with pytest.MonkeyPatch.context() as patch:
        _train_eagerly(patch)
        yield


@pytest.fixture
def one_eager_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for one test."""
    _train_eagerly(monkeypatch)


def _train_eagerly(patch: pytest.MonkeyPatch) -> None:
    finetune = importlib.import_module("amc_tf.training.finetune")
    prepare = finetune._prepare

    def eager(*arguments: Any) -> tuple[Any, dict[str, Any]]:
        data, settings = prepare(*arguments)
        return data, settings | {"run_eagerly": True}

    patch.setattr(finetune, "_prepare", eager)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, but for the isolated packages, which take seconds to install."""
    from amc_tf.system import cache

    installed = cache.folder() / "packages"
    installed.mkdir(parents=True, exist_ok=True)
    own = tmp_path / "cache"
    own.mkdir()
    (own / "packages").symlink_to(installed)
    monkeypatch.setenv("AMC_TF_CACHE", str(own))
    return own


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator["StandIn"]:
    """A stand-in phone for the tests of a module."""
    from tests.standin_adbd import StandIn

    with StandIn(tmp_path_factory.mktemp("phone")) as phone:
        yield phone


@pytest.fixture
def phone(standin: "StandIn") -> Iterator["StandIn"]:
    """The phone of the module, healthy again; every test must leave nothing there, neither files nor processes."""
    standin.faults.clear()
    standin.log.clear()
    yield standin
    assert standin.files == []
    assert standin.left_running() == {}


@pytest.fixture(scope="session")
def amc_data_dir() -> Path:
    """The folder of trained networks and data that AMC_DATA_DIR names; the test is skipped where it is unset."""
    folder = os.environ.get("AMC_DATA_DIR")
    if not folder:
        pytest.skip("AMC_DATA_DIR is not set: it names the folder of trained networks and data that this test reads")
    if not Path(folder).is_dir():
        pytest.fail(f"AMC_DATA_DIR is {folder!r}, which is no folder")
    return Path(folder)
