"""Which packages amc_tf keeps out of the user's environment, and why each of them is kept out."""

import contextlib
import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Package:
    """A package that is installed into a folder of its own.

    Its list, a requirements file beside this one, names it and what it imports, at exact versions with the hashes of
    all their files. What TensorFlow brings (absl-py, numpy, six, wrapt) is not on the list.

    Attributes:
        name: on PyPI; the list is NAME.txt.
        module: what is imported of it.
        needs: modules without which `module` cannot be imported, beside those that TensorFlow brings.
        alias: what its folder is called; "" for its name.
        tf_keras: whether it runs on tf_keras, whose version is TensorFlow's. pip does not know that: where tf_keras was
            required, it would renew the user's TensorFlow to that of the newest.
        before: the Python version from which on there is no wheel of it; None for none.
        sources: names on the list that are published as source alone.
        environment: variables that a process needs to import it.
        use: lines of Python that fail where it can be imported but not be used.
    """

    name: str
    module: str
    alias: str = ""
    needs: tuple[str, ...] = ()
    tf_keras: bool = False
    before: tuple[int, int] | None = None
    sources: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    use: str = ""

    @property
    def short(self) -> str:
        """What its folder is called."""
        return self.alias or self.name

    @property
    def requirements(self) -> tuple[Path, ...]:
        """The list, and for what runs on tf_keras that of this TensorFlow's tf_keras."""
        own = _HERE / f"{self.name}.txt"
        minor = ".".join(tensorflow_version().split(".")[:2])
        return (own, _HERE / f"tf-keras-{minor}.txt") if self.tf_keras else (own,)

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version of all on the list."""
        text = "\n".join(path.read_text(encoding="utf-8") for path in self.requirements if path.is_file())
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))

    @property
    def version(self) -> str:
        """Its own version on the list."""
        return self.versions[self.name]

    @property
    def refusal(self) -> str | None:
        """Why this environment cannot have it, a sentence; None where it can."""
        if missing := [path for path in self.requirements if not path.is_file()]:
            known = sorted(path.stem.removeprefix("tf-keras-") for path in _HERE.glob("tf-keras-*.txt"))
            return (
                f"{self.name} runs on tf_keras, which amc_tf knows for TensorFlow {', '.join(known)}, and this is "
                f"TensorFlow {tensorflow_version()} ({missing[0].name} is not there): install one of those."
            )
        if self.before is None or sys.version_info < self.before:
            return None
        first = ".".join(map(str, self.before))
        return (
            f"{self.name} has no wheels for Python {first} or newer, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: use an older Python, or do without it."
        )


def tensorflow_version() -> str:
    """Of the TensorFlow of this environment, which is not imported where its metadata tells."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("tensorflow")
    import tensorflow  # under another name, such as tensorflow-cpu

    return tensorflow.__version__


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "tf-agents",
            "tf_agents.agents.ddpg.ddpg_agent",
            # It pins typing-extensions 4.5 and pygame 2.1.3, and knows neither Keras 3 nor Python 3.12.
            # gym is imported by TF-Agents' environments and never used here; it is published as source alone.
            needs=(
                "tensorflow_probability", "gin", "gym", "gym_notices", "cloudpickle", "tree", "attr", "decorator",
                "tf_keras",
                "tensorboard",  # TensorFlow 2.21 comes without, and TF-Agents writes summaries as it learns
            ),  # fmt: skip
            tf_keras=True,
            sources=("gym",),
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tensorflow-model-optimization",
            "tensorflow_model_optimization",
            # It requires absl-py < 2, where TensorFlow brings a newer one.
            alias="tfmot",
            needs=("tf_keras",),
            tf_keras=True,
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tflite-runtime",
            "tflite_runtime.interpreter",
            before=(3, 12),
            # Compiled against NumPy 1: with NumPy 2 it can be imported, and loading a model ends in a SystemError.
            use="import numpy\nif numpy.__version__[:2] != '1.': raise ImportError('NumPy ' + numpy.__version__)",
        ),
    )
}
SETUPTOOLS = Package("setuptools", "setuptools")  # builds what is published as source alone
