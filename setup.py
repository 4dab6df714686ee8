"""Metadata of amc_tf. constraints.txt holds the exact versions this is tested with."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "amc_tf/version.py").read_text(encoding="utf-8"), re.M)[1]

ADB = ["adbutils>=2.12"]  # only for the adb binary that its wheels carry, for computers without one
TENSORBOARD = ["tensorboard>=2.19"]  # for tensorboard=True; TensorFlow 2.21 no longer brings it

# For models of tf_keras, whose users have it. Its minor version must be TensorFlow's: required of all, pip would take
# the newest one and renew the TensorFlow that is there.
TF_KERAS = ["tf_keras>=2.19,<2.22"]

# Every extra by what it is for.
EXTRAS = {
    "adb": ADB,
    # The packages that hold an environment back: tf-agents pins typing-extensions and pygame and wants a
    # tensorflow-probability of its age, tensorflow-model-optimization wants absl-py < 2, tflite-runtime NumPy 1.
    # amc_tf installs them into folders of its own (amc_tf/isolated) unless they can be imported; this extra is for
    # those who want one environment. tf-agents and tflite-runtime have no wheels for Python 3.12 or newer.
    "in-place": [
        *TF_KERAS,
        'tf-agents>=0.19,<0.20; python_version < "3.12"',
        'tensorflow-probability>=0.23,<0.24; python_version < "3.12"',
        'tflite-runtime>=2.14; python_version < "3.12"',
        'numpy<2; python_version < "3.12"',  # which tflite-runtime is compiled against
        'tensorflow<2.20; python_version < "3.12"',  # whose own requirements agree with those of tf-agents
        "tensorflow-model-optimization>=0.8",
    ],
    "tensorboard": TENSORBOARD,
    "tf_keras": TF_KERAS,
    "test": [
        *ADB, *TENSORBOARD, *TF_KERAS, "build>=1.2", "hypothesis>=6.100", "mypy>=1.15", "pytest>=8.2",
        "pytest-timeout>=2.3", "pytest-xdist>=3.6", "ruff>=0.6",
    ],
}  # fmt: skip

setup(
    name="amc_tf",
    version=VERSION,
    description="AutoML for Model Compression: a trained Keras model in, a pruned .tflite out, decided by a DDPG agent",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["keras", "tflite", "litert", "pruning", "model compression", "automl", "ddpg", "mobile"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["amc_tf", "amc_tf.*"]),
    package_data={"amc_tf": ["py.typed"], "amc_tf.report": ["*.jinja"], "amc_tf.isolated": ["*.txt"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow>=2.19,<2.22",
        "keras>=3.6",
        "ai-edge-litert>=2.1",
        "numpy>=1.26",
        "scipy>=1.12",
        "pillow",
        "platformdirs",
        "pooch>=1.8",
        "filelock>=3.12",
        "psutil>=5.9",
        "click>=8",
        "rich>=13",
        "jinja2>=3.1",
        "matplotlib>=3.8",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["amc-tf = amc_tf.cli:main"]},
)
