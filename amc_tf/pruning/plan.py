"""Plan: the masks of all units, with a digest, saved and loaded as JSON."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.graph import keras_builder, keras_reader, rewrite
from amc_tf.graph.groups import ChannelGroups, channel_groups
from amc_tf.graph.network import KerasModel
from amc_tf.pruning.kernels import WEIGHTS, zeroed
from amc_tf.system.files import write

CHANNELS = "channels"
VERSIONS = {CHANNELS: 1, WEIGHTS: 2}  # of the file format


class Plan(Mapping):
    """A frozen mapping unit name -> mask (bool array, True = stays).

    Units that it does not name stay whole. Two plans are equal if their masks are equal.

    Args:
        masks: unit name -> sequence of bools, one per channel of the group or per weight of the kernel in C order.
        of: "channels" or "weights": the elements of the masks.

    Attributes:
        of: the same.

    Raises:
        ValueError: a mask is not a one-dimensional array of bools or keeps nothing, or `of` has another value.
    """

    def __init__(self, masks: Mapping[str, np.ndarray], of: str = CHANNELS):
        if of not in VERSIONS:
            raise ValueError(f"A plan is of {of!r}; expected one of {', '.join(map(repr, VERSIONS))}.")
        self.of = of
        self._masks = {}
        for name in sorted(masks):
            mask = np.array(masks[name])
            if mask.dtype != bool or mask.ndim != 1:
                raise ValueError(
                    f"The mask of unit {name!r} has type {mask.dtype} and shape {mask.shape}; a one-dimensional array "
                    f"of bools is expected, True for what stays."
                )
            if not mask.any():
                raise ValueError(f"The mask of unit {name!r} keeps none of {mask.size}; at least one has to stay.")
            mask.flags.writeable = False
            self._masks[name] = mask

    def __getitem__(self, name: str) -> np.ndarray:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        least = min(self.keep.values(), default=1)
        return f"Plan({len(self)} units of {self.of}, keep {least:.2f} to 1, {self.digest[:12]})"

    @property
    def keep(self) -> dict[str, float]:
        """Keep ratio of every unit, in (0, 1]."""
        return {name: float(mask.mean()) for name, mask in self._masks.items()}

    @property
    def digest(self) -> str:
        """The name of the plan on disk, on the device and in every cache. Equal masks have equal digests."""
        return hashlib.sha256(json.dumps(self._as_json(), sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the plan as JSON: for every unit the size of its mask and what stays.

        Kept channels are written as a list of their numbers, kept weights as packed bits in base64.

        Raises:
            RunDirError: the file cannot be written.
        """
        stored = {"version": VERSIONS[self.of], "digest": self.digest, "units": self._as_json()}
        write(json.dumps(stored, indent=1).encode(), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Reads a file that `save` wrote.

        Raises:
            ValueError: the file is no plan, is damaged or has an unknown version.
        """
        try:
            stored = json.loads(Path(path).read_text())
            version = stored["version"]
            of = next((of for of, number in VERSIONS.items() if number == version), None)
            if of is not None:
                plan = cls({name: _mask(**unit) for name, unit in stored["units"].items()}, of)
                digest = stored["digest"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a plan ({error!r}); expected the JSON that Plan.save writes.") from error
        if of is None:
            read = " and ".join(map(str, VERSIONS.values()))
            raise ValueError(f"{path} is a plan of version {version!r}, but this amc_tf reads versions {read}.")
        if plan.digest != digest:
            raise ValueError(f"{path} holds another plan than its digest {digest} says; it was changed or damaged.")
        return plan

    def masked(self, model: KerasModel) -> KerasModel:
        """The model in its full shape, with every dropped channel dead or every dropped weight zero.

        The pruned model must compute the same outputs.

        Args:
            model: the Keras model that the plan was made for; it is not changed.

        Returns:
            A new model of the same Keras and the same shapes.
        """
        graph, weights = keras_reader.read(model)
        if self.of == WEIGHTS:
            return keras_builder.rebuild(model, weights=zeroed(graph, self, weights))
        groups = channel_groups(graph)
        return keras_builder.rebuild(model, weights=rewrite.masked(groups, self.kept(groups), weights))

    def kept(self, groups: ChannelGroups) -> np.ndarray:
        """bool array (groups.channels,): which channels of the network stay.

        Raises:
            ValueError: a unit is not a group of the network, has another size or is frozen; or it is a plan of weights.
        """
        if self.of != CHANNELS:
            raise ValueError(f"The plan is of {self.of}, where one of channels is expected; see Plan.of.")
        kept = np.ones(groups.channels, dtype=bool)
        by_name = {group.name: group for group in groups.groups}
        for name, mask in self._masks.items():
            group = by_name.get(name)
            if group is None or group.channels != mask.size:
                actual = "has no such group" if group is None else f"has {group.channels} channels there"
                raise ValueError(
                    f"The plan has a mask of {mask.size} for unit {name!r}, but the model {actual}; "
                    f"use a plan that was made for this very model."
                )
            if group.frozen and not mask.all():
                raise ValueError(f"Unit {name!r} cannot shrink: {group.frozen}; leave it out of the plan.")
            kept[group.start : group.start + group.channels] = mask
        return kept

    def _as_json(self) -> dict[str, dict[str, Any]]:
        if self.of == WEIGHTS:
            return {name: {"size": mask.size, "bits": _packed(mask)} for name, mask in self._masks.items()}
        return {
            name: {"size": mask.size, "kept": np.flatnonzero(mask).tolist()} for name, mask in self._masks.items()
        }


def _packed(mask: np.ndarray) -> str:
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def _mask(size: int, kept: list[int] | None = None, bits: str | None = None) -> np.ndarray:
    """The mask of a unit from its JSON."""
    if bits is not None:
        return np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=size).astype(bool)
    mask = np.zeros(size, dtype=bool)
    mask[kept] = True
    return mask
