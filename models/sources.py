"""Where weights and images are looked for: the folder named by AMC_DATA_DIR, then what ships in this package."""

import os
from pathlib import Path


class MissingData(FileNotFoundError):
    """Weights or images are not on this machine; the sentence says each way to get them."""


def find(name: str, beside: Path | None = None) -> Path | None:
    """Returns the file `name` of AMC_DATA_DIR, else of the folder `beside`, else None.

    Raises:
        MissingData: AMC_DATA_DIR is set to something that is no folder, which is more likely a slip than a wish.
    """
    folders = [beside] if beside is not None else []
    if os.environ.get("AMC_DATA_DIR"):
        given = Path(os.environ["AMC_DATA_DIR"]).expanduser()
        if not given.is_dir():
            raise MissingData(f"AMC_DATA_DIR is {str(given)!r}, which is no folder; correct it or unset it.")
        folders.insert(0, given)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
