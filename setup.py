"""Metadata of amc_tf. constraints.txt holds the exact versions this is tested with."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

ADB = ["adbutils>=2.12"]  # only for the adb binary that its wheels carry, for computers without one

# Every extra by what it is for; [all] is their union.
EXTRAS = {
    "adb": ADB,
    "test": [*ADB, "pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100", "ruff>=0.6"],
}

setup(
    name="amc_tf",
    version="0.1.0",
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
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["amc_tf", "amc_tf.*", "models", "models.*"]),
    # The small trained network of the demo and its images ship inside the package.
    package_data={
        "amc_tf.report": ["*.jinja"],
        "models": ["**/*.npz", "**/*.keras", "**/*.h5", "**/*.md", "**/LICENSE*"],
    },
    # tf-agents 0.19, the newest one, needs pygame 2.1.3, which has no wheel for Python 3.12 or newer (nor has
    # tflite-runtime 2.14).
    python_requires=">=3.10,<3.12",
    install_requires=[
        "tensorflow>=2.19,<2.22",
        "tf_keras>=2.19,<2.22",  # its minor version must be TensorFlow's
        "keras>=3.6",
        "tensorflow-model-optimization>=0.8",
        "tf-agents>=0.19,<0.20",
        "tensorflow-probability>=0.23,<0.24",  # what tf-agents 0.19 was built on; newer ones drop what it calls
        "tflite-runtime>=2.14",
        "ai-edge-litert>=1.2",
        "numpy>=1.26,<2",  # tflite-runtime's wheels are compiled against NumPy 1
        "typing-extensions>=4.5",  # tf-agents holds it at 4.5.0
        "scipy>=1.12",
        "pillow",
        "platformdirs",
        "click>=8",
        "rich>=13",
        "jinja2>=3.1",
        "matplotlib>=3.8",
    ],
    extras_require={**EXTRAS, "all": sorted({wanted for extra in EXTRAS.values() for wanted in extra})},
    entry_points={"console_scripts": ["amc-tf = amc_tf.cli:main"]},
)
