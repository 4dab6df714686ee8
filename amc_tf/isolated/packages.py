"""The packages that amc_tf keeps out of the user's environment, each with the reason."""

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

    A requirements file beside this module lists the package and its dependencies, with exact versions and the hashes of
    all files. The dependencies that TensorFlow brings (absl-py, numpy, six, wrapt) are not on the list.

    Attributes:
        name: on PyPI; the list is NAME.txt.
        module: that amc_tf imports.
        alias: name of the folder; "" for the name of the package.
        needs: modules that `module` imports, without those that TensorFlow brings.
        tf_keras: whether it runs on tf_keras. The version of tf_keras must be that of TensorFlow. pip does not know
            this: with tf_keras as a requirement, pip would upgrade the user's TensorFlow to match the newest tf_keras.
        before: the first Python version that has no wheel of it; None for none.
        sources: names on the list that PyPI has as source only.
        environment: variables that a process needs to import it.
        use: lines of Python that fail if it can be imported but not used.
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
        """Beginning of the name of its folder."""
        return self.alias or self.name

    @property
    def requirements(self) -> tuple[Path, ...]:
        """The package's own list, and if it runs on tf_keras the list of the tf_keras for this TensorFlow."""
        own = _HERE / f"{self.name}.txt"
        minor = ".".join(tensorflow_version().split(".")[:2])
        return (own, _HERE / f"tf-keras-{minor}.txt") if self.tf_keras else (own,)

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version of everything on the lists."""
        text = "\n".join(path.read_text(encoding="utf-8") for path in self.requirements if path.is_file())
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))

    @property
    def version(self) -> str:
        """Its own version."""
        return self.versions[self.name]

    @property
    def refusal(self) -> str | None:
        """Why this environment cannot have it, as a sentence; None if it can."""
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
    """The version of TensorFlow in this environment, from its metadata if possible, without importing it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("tensorflow")
    import tensorflow  # installed under another name, such as tensorflow-cpu

    return tensorflow.__version__


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "tf-agents",
            "tf_agents.agents.ddpg.ddpg_agent",
            # It pins typing-extensions 4.5 and pygame 2.1.3, and supports neither Keras 3 nor Python 3.12.
            # The environments of TF-Agents import gym, which amc_tf does not use. PyPI has gym as source only.
            needs=(
                "tensorflow_probability", "gin", "gym", "gym_notices", "cloudpickle", "tree", "attr", "decorator",
                "tf_keras",
                "tensorboard",  # TF-Agents writes summaries while it learns, and TensorFlow 2.21 no longer brings it
            ),  # fmt: skip
            tf_keras=True,
            sources=("gym",),
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tensorflow-model-optimization",
            "tensorflow_model_optimization",
            # It requires absl-py < 2, but TensorFlow brings a newer one.
            alias="tfmot",
            needs=("tf_keras",),
            tf_keras=True,
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tflite-runtime",
            "tflite_runtime.interpreter",
            before=(3, 12),
            # It is compiled against NumPy 1. With NumPy 2 the import works, but loading a model raises a SystemError.
            use="import numpy\nif numpy.__version__[:2] != '1.': raise ImportError('NumPy ' + numpy.__version__)",
        ),
    )
}
SETUPTOOLS = Package("setuptools", "setuptools")  # builds the packages that PyPI has as source only
