"""The folder of what amc_tf keeps between its uses: packages of its own, latency tables, the benchmark program."""

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """AMC_TF_CACHE where that is set, else the folder for caches of this system's user; it need not exist yet."""
    return Path(os.environ.get("AMC_TF_CACHE") or platformdirs.user_cache_dir("amc_tf", appauthor=False)).absolute()
