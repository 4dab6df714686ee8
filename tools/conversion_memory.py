"""Checks conversions for memory leaks: converts Plain-20 a hundred times and prints the memory of this process.

python tools/conversion_memory.py [keras|tf_keras]
"""

import gc
import importlib
import os
import platform
import sys
from pathlib import Path

import psutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

CONVERSIONS, EVERY = 100, 20


def main(which: str = "keras") -> None:
    import tensorflow as tf

    import models
    from amc_tf.tflite.conversion.keras_to_tflite import convert

    model = models.load("plain20_fashion_mnist", importlib.import_module(which))
    memory = []
    for number in range(1, CONVERSIONS + 1):
        convert(model)
        if number % EVERY == 0:
            gc.collect()
            memory.append(f"{psutil.Process().memory_info().rss / 1e6:.0f}")
    print(f"Python {platform.python_version()}, TensorFlow {tf.__version__}, {which}: {', '.join(memory)} MB")


if __name__ == "__main__":
    main(*sys.argv[1:2])
