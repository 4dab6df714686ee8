"""The cache folder, which holds isolated packages, latency tables and the benchmark program between runs."""

import os
from pathlib import Path

import platformdirs


def folder() -> Path:
    """AMC_TF_CACHE if it is set, else the user's cache folder on this system. It need not exist yet."""
    return Path(os.environ.get("AMC_TF_CACHE") or platformdirs.user_cache_dir("amc_tf", appauthor=False)).absolute()
