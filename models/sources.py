"""Finds weights and images: in the folder AMC_DATA_DIR, then in this package."""

import os
from pathlib import Path


class MissingData(FileNotFoundError):
    """Weights or images are not on this machine. The message says how to get them."""


def find(name: str, beside: Path | None = None) -> Path | None:
    """Returns the path of the file `name` in AMC_DATA_DIR, else in the folder `beside`, else None.

    Raises:
        MissingData: AMC_DATA_DIR is set, but is no folder.
    """
    folders = [beside] if beside is not None else []
    if os.environ.get("AMC_DATA_DIR"):
        given = Path(os.environ["AMC_DATA_DIR"]).expanduser()
        if not given.is_dir():
            raise MissingData(f"AMC_DATA_DIR is {str(given)!r}, which is no folder; correct it or unset it.")
        folders.insert(0, given)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
