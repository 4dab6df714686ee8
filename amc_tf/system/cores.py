"""The cores that this process may use."""

import os

import psutil


def allowed() -> set[int] | None:
    """Their numbers; None where the system does not tie processes to cores, as macOS."""
    process = psutil.Process()
    return set(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None


def count() -> int:
    """How many they are."""
    cores = allowed()
    return len(cores) if cores else os.cpu_count() or 1
