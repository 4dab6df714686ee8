"""Merges the output of `pip freeze` on several Pythons into constraints.txt.

python tools/merge_constraints.py 3.10=A.txt 3.11=B.txt 3.12=C.txt 3.13=D.txt > constraints.txt

A version that all Pythons share has no marker; others have one with their Pythons.
"""

import re
import sys
from pathlib import Path

HEAD = """\
# The exact versions that amc_tf is tested with, by Python version: `pip install -c constraints.txt .`
# Made by tools/merge_constraints.py. Together they cover TensorFlow 2.19 to 2.21, NumPy 1 and 2.
"""


def main(arguments: list[str]) -> None:
    if not arguments or not all(re.fullmatch(r"3\.\d+=.+", argument) for argument in arguments):
        sys.exit(f"usage: {(__doc__ or '').splitlines()[2]}")
    lists = dict(argument.split("=", 1) for argument in arguments)
    frozen = {python: pins(Path(path).read_text(encoding="utf-8")) for python, path in lists.items()}
    print(HEAD)
    for name in sorted({name for pinned in frozen.values() for name in pinned}):
        print(*lines(name, {python: pinned.get(name) for python, pinned in frozen.items()}), sep="\n")


def pins(text: str) -> dict[str, str]:
    """Name -> version of the lines NAME==VERSION."""
    return {name.lower().replace("_", "-"): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.M)}


def lines(name: str, versions: dict[str, str | None]) -> list[str]:
    """The constraints on one package, given its version on each Python; None where it was not installed."""
    if len(set(versions.values())) == 1:
        return [f"{name}=={next(iter(versions.values()))}"]
    pythons: dict[str, list[str]] = {}
    for python, version in versions.items():
        if version is not None:
            pythons.setdefault(version, []).append(f'python_version == "{python}"')
    return [f"{name}=={version} ; {' or '.join(which)}" for version, which in pythons.items()]


if __name__ == "__main__":
    main(sys.argv[1:])
