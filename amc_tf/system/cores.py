"""The cores that this process may use."""

import os

import psutil


def allowed() -> set[int] | None:
    """Their numbers; None on systems without CPU affinity, such as macOS."""
    process = psutil.Process()
    return set(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None


def count() -> int:
    """Their number."""
    cores = allowed()
    return len(cores) if cores else os.cpu_count() or 1
