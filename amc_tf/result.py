"""What compress() hands back, and the files it leaves in the run directory."""

import contextlib
import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amc_tf.cost.reach import Reach
from amc_tf.errors import RunDirError
from amc_tf.graph.identity import digest
from amc_tf.pruning.plan import Plan
from amc_tf.search.journal import JOURNAL
from amc_tf.search.trial import Trial
from amc_tf.system.files import write
from amc_tf.tflite.conversion.quantize import FORMATS


@dataclass(frozen=True)
class Figures:
    """One network in numbers.

    Attributes:
        accuracy: on the validation data where given, else on the reward split.
        macs: multiplications of one inference.
        params: number of weights; where single weights were pruned, of those that are not zero.
        size_bytes: of the .tflite.
        latency_ms: median on the device; of the compressed network its share of the base network's, measured in turns.
            None where it was not measured.
        gzip_bytes: of the .tflite compressed, about what an app's download grows by.
    """

    accuracy: float
    macs: int
    params: int
    size_bytes: int
    latency_ms: float | None = None
    gzip_bytes: int | None = None


SEARCH, FINETUNING = "search", "fine-tuning"  # what Ctrl-C may end early
RESULT, _MODEL, _PLAN = "result.json", "model.keras", "plan.json"  # in the run directory
RESULT_FORMAT = 2  # of result.json; 1, of amc_tf 0.1, did not say so, nor of which network it was
EARLIER = "earlier"  # folder in the run directory for files of networks before
FLOAT = "float"  # the format that all figures are of but those of other formats


@dataclass(frozen=True)
class Format:
    """The compressed network in one format of its weights, in numbers.

    Attributes:
        format: "float"; "int8", weights and activations of 8 bits; "fp16", weights of 16 bits; or "dynamic", weights of
            8 bits, activations as they come.
        accuracy, latency_ms, size_bytes, gzip_bytes: see Figures.
    """

    format: str
    accuracy: float
    latency_ms: float | None
    size_bytes: int
    gzip_bytes: int

    @property
    def file(self) -> str:
        """Its name in the run directory."""
        return FORMATS[self.format]


@dataclass(frozen=True)
class Result:
    """A compressed network.

    Attributes:
        model: plain model of the caller's Keras.
        tflite: path of the .tflite to ship: that of the format that was asked for, else the float one.
        plan: what was kept.
        run_dir: where the files are.
        trials: all trials of the search.
        base, compressed: the network before and after.
        uniform: the same ratio kept everywhere at the same budget (without one: at the cost of `compressed`), made and
            scored the same way: what the search was worth. Under a latency budget it is the one that the table foretold
            to hold it; its own time stands beside it. None where it could not be made.
        target, budget: as they were asked for; budget None for none.
        limit: the budget in the target's own unit, or None.
        seconds: of the call.
        difference: largest absolute difference between the outputs of the .tflite and of `model` on real inputs.
        scored_on: "validation_data", "reward_data", "train_data" or "generated noise": what the accuracies are of.
        scored_by: "accuracy", "metric" (the caller's) or "agreement" (with the original, where there are no labels).
        latency: where and how latency was measured, in plain types, or None.
        method: "channel" or "magnitude".
        max_drop: as it was asked for, in points, or None.
        untrained: the compressed network before it was fine-tuned; None where it was not.
        obstacles: what keeps zeros among single weights from making the network faster, a sentence each; empty where
            nothing does, None for whole channels, which leave no zeros.
        reach: how many of the original's MACs pruning can save, and which layers keep the others; None for single
            weights, which save none.
        formats: every format that was made, float first.
        units: what could be pruned, what not and why, in the network's order: dicts of "name", "layers", "size", "kept"
            and "frozen" (why, or None).
        training: "epochs", "distilled", "temperature", "weight" and, by epoch, "history" of the fine-tuning; None
            without one.
        stages: shares of the original that it was pruned to and trained before; trials, uniform and untrained are then
            those of the last stage, whose base is what the one before left.
        inputs, outputs: of the float file: dicts of "name", "shape" and "dtype".
        stopped: what Ctrl-C ended early, "search" or "fine-tuning"; None where nothing was.
    """

    model: Any
    tflite: Path
    plan: Plan
    run_dir: Path
    trials: tuple[Trial, ...]
    base: Figures
    compressed: Figures
    uniform: Figures | None
    target: str
    budget: float | str | None
    limit: float | None
    seconds: float
    difference: float
    scored_on: str
    scored_by: str
    latency: dict[str, Any] | None = None
    method: str = "channel"
    max_drop: float | None = None
    untrained: Figures | None = None
    obstacles: tuple[str, ...] | None = None
    reach: Reach | None = None
    formats: tuple[Format, ...] = ()
    units: tuple[dict[str, Any], ...] = ()
    training: dict[str, Any] | None = None
    stages: tuple[float, ...] = ()
    inputs: tuple[dict[str, Any], ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    stopped: str | None = None
    again: Callable[["Result", Any], "Result"] | None = field(default=None, repr=False, compare=False)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search, or the fine-tuning, early."""
        return self.stopped is not None

    def with_model(self, trained: Any) -> "Result":
        """The result with another model of the same form, for instance `model` after a training of your own.

        It is converted, checked, scored on the same examples and measured on the same device again, and takes the
        place of `model` in the run directory; the same call of compress() would put its own back.

        Args:
            trained: model of the same Keras with the layers and weight shapes of `model`; where single weights were
                pruned, with their zeros.

        Returns:
            A new Result; `untrained` are the figures before any training.

        Raises:
            TypeError, ValueError: it is no such model.
            ConversionError, DeviceError, RunDirError: as of compress().
        """
        if self.again is None:
            raise ValueError("This Result was not made by compress(), so its network cannot be scored again.")
        return self.again(self, trained)

    def summary(self) -> dict[str, Any]:
        """The figures as plain types, as they stand in result.json."""
        return {
            "base": asdict(self.base),
            "compressed": asdict(self.compressed),
            "uniform": None if self.uniform is None else asdict(self.uniform),
            "untrained": None if self.untrained is None else asdict(self.untrained),
            "method": self.method,
            "target": self.target,
            "max_drop": self.max_drop,
            "budget": self.budget,
            "limit": self.limit,
            "episodes": sum(trial.kind not in ("base", "uniform") for trial in self.trials),
            "seconds": round(self.seconds, 1),
            "tflite_difference": self.difference,
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "scored_on": self.scored_on,
            "scored_by": self.scored_by,
            "latency": self.latency,
            "obstacles": None if self.obstacles is None else list(self.obstacles),
            "reach": None if self.reach is None else asdict(self.reach),
            "tflite": self.tflite.name,
            "formats": [asdict(line) | {"file": line.file} for line in self.formats],
            "units": list(self.units),
            "training": self.training,
            "stages": list(self.stages),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
        }

    def files(self) -> dict[str, bytes]:
        """Its .tflite files by format, as they lie in the run directory."""
        return {line.format: (self.run_dir / line.file).read_bytes() for line in self.formats}

    def save(self, base_tflite: bytes, files: Mapping[str, bytes]) -> None:
        """Writes the run directory: all files, or none where one cannot be written, as on a full disk.

        Args:
            base_tflite: of the base network.
            files: format -> .tflite of the compressed one. Those of an earlier result in other formats stay while they
                are of the same network; else they move to earlier/, so that none stands for a network that it is not.

        Raises:
            RunDirError: they cannot be written.
        """
        network = digest(self.model)
        written = {"format": RESULT_FORMAT, "network": network, **self.summary()}
        contents = {"base.tflite": base_tflite, **{FORMATS[format]: tflite for format, tflite in files.items()}}
        contents[RESULT] = json.dumps(written, indent=1).encode()
        parts = {name: self.run_dir / f".part.{name}" for name in (_PLAN, _MODEL, *contents)}
        try:
            self.plan.save(parts[_PLAN])
            self.model.save(parts[_MODEL])
            for name, data in contents.items():
                write(data, parts[name])
            self._move_earlier(set(files), network)
            (self.run_dir / RESULT).unlink(missing_ok=True)  # it comes last, and stands for all of them
            for name, part in parts.items():
                part.replace(self.run_dir / name)
        except (OSError, RunDirError) as error:
            why = getattr(error.__cause__ or error, "strerror", None) or error
            raise RunDirError(
                f"The result cannot be written to {self.run_dir} ({why}); the journal is safe: make "
                f"room or mend the permissions and run the same call again, which goes straight to the result."
            ) from error
        finally:
            for part in parts.values():
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)

    def _move_earlier(self, formats: Collection[str], network: str) -> None:
        """Moves files of other formats out of the way if they are not of this network, which is given by its digest."""
        stale = [name for format, name in FORMATS.items() if format not in formats and (self.run_dir / name).exists()]
        if not stale or _network(self.run_dir / RESULT) == network:
            return
        (self.run_dir / EARLIER).mkdir(exist_ok=True)
        for name in stale:
            (self.run_dir / name).replace(self.run_dir / EARLIER / name)

    def __str__(self) -> str:
        """The before/after table; where there are several formats, a table of these below it."""
        tables = [_aligned([("", "base", "uniform", "compressed", ""), *self.rows()])]
        if len(self.formats) > 1:
            head = ("compressed as", self.scored_by, "latency", "size", "gzipped", "")
            tables.append(_aligned([head, *self.format_rows()]))
        return "\n".join(tables)

    def rows(self) -> list[tuple[str, ...]]:
        """The before/after table: (figure, base, uniform, compressed, what is kept)."""
        base, small, even = self.base, self.compressed, self.uniform
        lost = small.accuracy - base.accuracy
        change = f"{lost:+.4g}" if self.scored_by == "metric" else f"{lost * 100:+.2f} points"
        accuracies = [self.format_score(None if each is None else each.accuracy) for each in (base, even, small)]
        rows: list[tuple[str, ...]] = [(self.scored_by, *accuracies, change)]
        form = FLOAT if self.latency is None else self.latency.get("format", FLOAT)
        timed = "latency" if form == FLOAT else f"latency ({form})"
        for name, figure, template in (
            ("MACs", "macs", "{:,}"),
            ("params", "params", "{:,}"),
            ("size", "size_bytes", "{:,} B"),
            ("gzipped", "gzip_bytes", "{:,} B"),
            (timed, "latency_ms", "{:.3g} ms"),
        ):
            values = [None if each is None else getattr(each, figure) for each in (base, even, small)]
            if values[0] is not None and values[2] is not None:
                kept = f"{values[2] / values[0]:.1%} kept"
                rows.append((name, *(_formatted(value, template) for value in values), kept))
        if self.latency is not None:
            low, high = self.latency["ratio_low"], self.latency["ratio_high"]  # of five rounds or more: never None
            rows[-1] = (*rows[-1][:4], f"{rows[-1][4]} ({low:.1%} to {high:.1%})")
        return rows

    def format_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """The formats of the compressed network: (format, accuracy, latency, size, gzipped, file)."""
        return [
            (
                line.format, self.format_score(line.accuracy), _formatted(line.latency_ms, "{:.3g} ms"),
                f"{line.size_bytes:,} B", f"{line.gzip_bytes:,} B", FORMATS[line.format],
            )
            for line in self.formats
        ]  # fmt: skip

    def format_score(self, accuracy: float | None) -> str:
        """An accuracy in percent, or the caller's own metric as a plain number; "" for None."""
        return _formatted(accuracy, "{:.4g}" if self.scored_by == "metric" else "{:.2%}")


def check_folder(run_dir: Path) -> None:
    """Refuses a folder with files of other making that a result would replace.

    Raises:
        RunDirError: no search was begun or has ended in the folder, and it holds a file of a name that results have.
    """
    if (run_dir / JOURNAL).exists() or _network(run_dir / RESULT) is not None:  # whose journal was deleted
        return
    taken = [name for name in (_MODEL, _PLAN, RESULT, "base.tflite", *FORMATS.values()) if (run_dir / name).exists()]
    if taken:
        raise RunDirError(
            f"{run_dir} holds {', '.join(taken)} but no search, and the result would replace what is there: choose "
            f"another run_dir, or move the files away."
        )


def _network(path: Path) -> str | None:
    """The digest of the network that a result.json is of; None where it does not say."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads(path.read_text(encoding="utf-8")).get("network")
    return None


def packed(tflite: bytes) -> int:
    """The bytes of a file when it is compressed as the files of an app are."""
    return len(zlib.compress(tflite, level=9))


def _formatted(value: float | None, template: str) -> str:
    return "" if value is None else template.format(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text: columns flush left, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
