"""Compresses one network of every family in keras.applications, and writes one line per case into a file.

    python tools/sweep.py RESULTS.jsonl [--family NAME]... [--keras keras|tf_keras]... [--all] [--again]
    python tools/sweep.py RESULTS.jsonl --markdown > docs/sweep.md

A case is one network of one Keras, alone or nested under a new head, with random weights and small images. It is saved
and loaded before compress(). The result is saved, loaded and run in a process without amc_tf, and its .tflite is timed
on this computer in turns with the base. Every case has a process of its own. Cases in the file are skipped, so the same
command resumes. --all tries every format with every network; otherwise each network gets one format.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FAMILIES = {  # smallest network -> side of its images: 64, or the least that it allows
    "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64,
    "ResNet50": 64, "ResNet50V2": 64, "DenseNet121": 64, "NASNetMobile": 64, "Xception": 71, "InceptionV3": 75,
    "InceptionResNetV2": 75, "VGG16": 64, "ConvNeXtTiny": 64, "RegNetX002": 64, "RegNetY002": 64, "ResNetRS50": 64,
}  # fmt: skip
ONLY_TF_KERAS = ("RegNetX002", "RegNetY002", "ResNetRS50")
FORMS = ("alone", "nested")
FORMATS = {"keras": (".keras", ".h5"), "tf_keras": (".keras", ".h5", "SavedModel")}  # that it loads as a model
CLASSES, IMAGES, SEEN = 10, 96, 2  # IMAGES: half to calibrate, half to score; SEEN: compared at the end
SETTINGS = {"target": "macs", "budget": 0.6, "episodes": 5, "seed": 0}

# Runs in a process where amc_tf cannot be imported. Arguments: the folder, the Keras, the names of the models.
CLEAN = """
import importlib, json, sys
sys.modules["amc_tf"] = None  # any import of it fails from here on
import numpy as np
from ai_edge_litert.interpreter import Interpreter
folder, keras, *names = sys.argv[1:]
keras = importlib.import_module(keras)
images, expected = np.load(folder + "/images.npy"), np.load(folder + "/outputs.npy")
worst, unread = 0.0, {}
for name in names:
    try:
        model = keras.models.load_model(f"{folder}/{name}")
    except Exception as error:
        unread[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        continue
    worst = max(worst, float(np.abs(np.asarray(model(images, training=False)) - expected).max()))
runner = Interpreter(folder + "/model.tflite").get_signature_runner()
(name,) = runner.get_input_details()
rows = np.concatenate([next(iter(runner(**{name: images[i : i + 1]}).values())) for i in range(len(images))])
print(json.dumps({"unread": unread, "model": worst, "tflite": float(np.abs(rows - expected).max())}))
"""

HEAD = """# Families of keras.applications

Made by `{command}`: {settings}, {images} random images, random weights with fitting BatchNorm statistics, {classes} \
classes. Each network was saved in the given format and loaded before compress(). The result was saved in that format \
and as `.keras`, then loaded and run in a process without amc_tf. Its `.tflite` has builtin operators only and was \
timed on this computer in turns with the base. Random networks have no meaningful accuracy, so the table has none.

| column | meaning |
|---|---|
| form | alone, or its trunk nested as one layer under a new head |
| MACs, latency | share of the base; latency with its 95 % interval |
| difference | largest difference between outputs in that process and outputs of the returned model |
| seconds | of the call of compress(), on a busy computer |

"""


@dataclass(frozen=True)
class Case:
    """One network, its form, and the format in which it is saved and loaded."""

    family: str
    keras: str
    form: str
    format: str


def cases() -> Iterator[list[Case]]:
    """The cases of each network, one per format, first choice first; all networks in one form, then the other."""
    networks = [(f, k) for f, k in product(FAMILIES, FORMATS) if k == "tf_keras" or f not in ONLY_TF_KERAS]
    for turn in range(len(FORMS)):
        for number, (family, keras) in enumerate(networks):
            form = FORMS[(number + number // 2 + turn) % 2]  # so that each Keras gets both forms
            formats = FORMATS[keras]
            first = (number // 4 + turn) % len(formats)
            yield [Case(family, keras, form, format) for format in (*formats[first:], *formats[:first])]


# ------------------------------------------------------------------------------------------------ one case


def build(case: Case, keras: Any, images: np.ndarray) -> Any:
    """Builds a network with random weights and BatchNorm statistics that let its signals reach the output."""
    from tools import network_table

    function, shape, layers = getattr(keras.applications, case.family), images.shape[1:], keras.layers
    if case.form == "alone":
        model = network_table.randomized(function(weights=None, input_shape=shape, classes=CLASSES))
        network_table.calibrate(model, images)
        return model
    trunk = network_table.randomized(function(weights=None, input_shape=shape, include_top=False))
    network_table.calibrate(trunk, images)
    image = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(trunk(image, training=False))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(layers.Dropout(0.2)(x)), name="nested")


def stored(model: Any, case: Case, folder: Path, name: str) -> Path:
    """The model in a file, or a folder for a SavedModel."""
    path = folder / (name if case.format == "SavedModel" else name + case.format)
    model.save(path, **({"save_format": "tf"} if case.format == "SavedModel" else {}))
    return path


def attempt(case: Case, folder: Path) -> dict[str, Any]:
    """Runs a case. Its outcome is "works", "refused" (by amc_tf), "unbuilt" (by its own Keras), or "wrong"."""
    from amc_tf.errors import AmcError

    keras = importlib.import_module(case.keras)
    side = FAMILIES[case.family]
    images = np.random.default_rng(0).uniform(0, 255, (IMAGES, side, side, 3)).astype("float32")
    try:
        path = stored(build(case, keras, images[:16]), case, folder, "given")
        keras.backend.clear_session()
        model = keras.models.load_model(path)
    except Exception as error:  # any type; amc_tf has not been called yet
        return {"outcome": "unbuilt", "sentence": _sentence(error)}
    labels = np.asarray(model.predict(images, verbose=0)).argmax(axis=-1)
    try:
        return _compressed(case, keras, model, (images, labels), folder)
    except AmcError as error:
        return {"outcome": "refused", "sentence": f"{type(error).__name__}: {error}"}


def _stopwatch() -> Any:
    """This computer, with 0.2 s per process, which suffices to tell whether a file is faster."""
    from amc_tf.devices import HostDevice

    class BriefHost(HostDevice):
        def benchmark(self, path, *, min_runs=50, min_seconds=0.2):
            (timing,) = self.benchmark_many([path], min_runs=min_runs, min_seconds=min(min_seconds, 0.2))
            return timing

    return BriefHost()


def _compressed(case: Case, keras: Any, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> dict:
    import amc_tf
    from amc_tf.tflite import operators

    size = IMAGES // 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = amc_tf.compress(
            model, train_data=data, calibration_size=size, reward_size=size, run_dir=folder / "run", verbose=False,
            device=_stopwatch(), **SETTINGS,
        )  # fmt: skip
    remarks = sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning) and _from_amc_tf(w)})
    path = stored(result.model, case, folder / "run", "returned")
    np.save(folder / "run/images.npy", data[0][:SEEN])
    np.save(folder / "run/outputs.npy", np.asarray(result.model(data[0][:SEEN], training=False)))
    clean = _clean(folder / "run", case.keras, [path.name, "model.keras"])
    subgraph = operators.read(result.tflite)[0].operators
    foreign = sorted({op.name for op in subgraph if op.custom or op.name.startswith("Flex")})
    difference = max(clean.get("model", np.inf), clean.get("tflite", np.inf))
    figures = {
        "macs": result.compressed.macs / result.base.macs,
        "latency": [result.latency[key] for key in ("ratio", "ratio_low", "ratio_high")],
        "base_ms": result.base.latency_ms,
        "difference": difference,
        "seconds": round(result.seconds, 1),
        "failed_trials": [t.reason for t in result.trials if t.state != "complete"],
    }
    unread = dict(clean.get("unread", {}))
    known = {name for name in unread if _original_unreadable(model, keras, folder / "given.keras", name)}
    wrong = [
        "in a process without amc_tf: " + clean["error"] if "error" in clean else None,
        *(f"{name} cannot be loaded ({why})" for name, why in unread.items() if name not in known),
        f"operators {foreign} in the .tflite" if foreign else None,
        f"outputs differ by {difference:.2g}" if "error" not in clean and difference > 1e-3 else None,
        "the .tflite is not faster than the base" if figures["latency"][0] >= 1 else None,
        "some trials failed" if figures["failed_trials"] else None,
    ]
    sentence = "; ".join(filter(None, wrong))
    if known:
        remarks.append(f"{case.keras} cannot load a .keras file of this network, original or compressed.")
    return {"outcome": "wrong" if sentence else "works", "sentence": sentence or " ".join(remarks), **figures}


def _from_amc_tf(warning: warnings.WarningMessage) -> bool:
    """Whether amc_tf issued a warning."""
    import amc_tf

    return Path(warning.filename).is_relative_to(Path(amc_tf.__file__).parent)


def _original_unreadable(model: Any, keras: Any, path: Path, name: str) -> bool:
    """Whether Keras cannot load the original network from such a file either."""
    if name != "model.keras":
        return False
    model.save(path)
    try:
        keras.models.load_model(path)
    except Exception:  # any type
        return True
    return False


def _clean(folder: Path, keras: str, names: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-c", CLEAN, str(folder), keras, *names]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"


# ------------------------------------------------------------------------------------------------ all of them


def in_own_process(case: Case, seconds: float, log: Callable[[str], None]) -> dict[str, Any]:
    """Runs a case in a process. A process that raises, dies or takes too long makes the outcome "wrong"."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, str(answer), "--one", json.dumps(asdict(case)), "--folder", folder]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and its workers
            process.communicate()
            result = {"outcome": "wrong", "sentence": f"it took longer than {seconds:.0f} s"}
        else:
            lines = output.strip().splitlines()
            if answer.exists():
                result = json.loads(answer.read_text())
            else:
                result = {"outcome": "wrong", "sentence": lines[-1][:300] if lines else f"exit {process.returncode}"}
                log("\n".join(lines[-30:]))
    return asdict(case) | {"whole_seconds": round(time.monotonic() - started, 1)} | result


def read_results(path: Path) -> dict[Case, dict[str, Any]]:
    """The last line of each case."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        results[Case(*(entry[name] for name in ("family", "keras", "form", "format")))] = entry
    return results


def table(entries: list[dict[str, Any]], command: str) -> str:
    """The page, in Markdown."""
    settings = ", ".join(f"{name}={value!r}" for name, value in SETTINGS.items())
    rows = ["| network | input | Keras | form | format | MACs | latency | difference | seconds |", "|" + "---|" * 9]
    order = list(FAMILIES)
    entries = sorted(entries, key=lambda e: (order.index(e["family"]), e["keras"], e["form"], e["format"]))
    for entry in entries:
        cells = [entry["family"], FAMILIES[entry["family"]], entry["keras"], entry["form"], f"`{entry['format']}`"]
        if "macs" in entry:
            ratio, low, high = entry["latency"]
            cells += [f"{entry['macs']:.1%}", f"{ratio:.1%} ({low:.1%} to {high:.1%})", f"{entry['difference']:.0e}"]
            cells += [f"{entry['seconds']:.0f}"]
        else:
            cells += [entry["outcome"], "", "", ""]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    page = HEAD.format(command=command, settings=settings, images=IMAGES, classes=CLASSES) + "\n".join(rows) + "\n"
    working = sum(entry["outcome"] == "works" for entry in entries)
    page += f"\n{working} of {len(entries)} cases work.\n"
    for outcome, title in (
        ("works", "Remarks"),
        ("refused", "Refused, with this sentence"),
        ("unbuilt", "Not built, saved or loaded by its own Keras"),
        ("wrong", "Wrong"),
    ):
        with_sentence = [entry for entry in entries if entry["outcome"] == outcome and entry["sentence"]]
        if with_sentence:
            page += f"\n## {title}\n\n"
            for e in with_sentence:
                page += f"- **{e['family']}**, {e['keras']}, {e['form']}, `{e['format']}`: {e['sentence']}\n"
    return page


@click.command(help=__doc__)
@click.argument("results", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--family", "families", multiple=True, type=click.Choice(list(FAMILIES)), help="Default: all.")
@click.option("--keras", "kerases", multiple=True, type=click.Choice(list(FORMATS)), help="Default: both.")
@click.option("--all", "every", is_flag=True, help="Every format with every network.")
@click.option("--again", is_flag=True, help="Repeat the cases that did not work.")
@click.option("--seconds", default=900.0, show_default=True, help="Longest time for one case.")
@click.option("--markdown", is_flag=True, help="Only print the page of the results.")
@click.option("--one", hidden=True)
@click.option("--folder", hidden=True, type=click.Path(path_type=Path))
def main(results, families, kerases, every, again, seconds, markdown, one, folder) -> None:
    if one is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.write_text(json.dumps(attempt(Case(**json.loads(one)), folder)))
        return
    done = read_results(results)
    if markdown:
        print(table(list(done.values()), "python tools/sweep.py RESULTS.jsonl"), end="")
        return
    for network in cases():
        if (families and network[0].family not in families) or (kerases and network[0].keras not in kerases):
            continue
        for case in network:
            entry = done.get(case)
            if entry is None or (again and entry["outcome"] != "works"):
                entry = in_own_process(case, seconds, lambda text: print(text, file=sys.stderr, flush=True))
                with results.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                print(json.dumps(entry), flush=True)
            if not every and entry["outcome"] != "unbuilt":
                break  # only an unbuilt case leads on to the next format


if __name__ == "__main__":
    main()
