"""Which packages amc_tf keeps out of the user's environment, and why each of them is kept out."""

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
        why: what it would do to an environment.
        before: the Python version from which on there is no wheel of it; None for none.
        sources: names on the list that are published as source alone.
        environment: variables that a process needs to import it.
    """

    name: str
    module: str
    why: str
    needs: tuple[str, ...] = ()
    before: tuple[int, int] | None = None
    sources: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def requirements(self) -> Path:
        """The list."""
        return _HERE / f"{self.name}.txt"

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version of all on the list."""
        return dict(re.findall(r"^([\w.-]+)==(\S+)", self.requirements.read_text(encoding="utf-8"), re.M))

    @property
    def version(self) -> str:
        """Its own version on the list."""
        return self.versions[self.name]

    @property
    def refusal(self) -> str | None:
        """Why this Python cannot have it, a sentence; None where it can."""
        if self.before is None or sys.version_info < self.before:
            return None
        first = ".".join(map(str, self.before))
        return (
            f"{self.name} has no wheels for Python {first} or newer, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: use an older Python, or do without it."
        )


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "tf-agents",
            "tf_agents.agents.ddpg.ddpg_agent",
            why="it pins typing-extensions 4.5 and pygame 2.1.3, and knows neither Keras 3 nor Python 3.12",
            # gym is imported by TF-Agents' environments and never used here; it is published as source alone.
            needs=(
                "tensorflow_probability", "gin", "gym", "gym_notices", "cloudpickle", "tree", "attr", "decorator",
                "tensorboard",  # TensorFlow 2.21 comes without, and TF-Agents writes summaries as it learns
            ),  # fmt: skip
            sources=("gym",),
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tensorflow-model-optimization",
            "tensorflow_model_optimization",
            why="it requires absl-py < 2, where TensorFlow brings a newer one",
            environment=(("TF_USE_LEGACY_KERAS", "1"),),
        ),
        Package(
            "tflite-runtime",
            "tflite_runtime.interpreter",
            why="it is compiled against NumPy 1",
            before=(3, 12),
        ),
    )
}
SETUPTOOLS = Package("setuptools", "setuptools", why="it builds what is published as source alone")
