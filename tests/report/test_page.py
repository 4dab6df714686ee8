"""The report as files: the same bytes for the same run directory, whatever it holds."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import pytest
from click.testing import CliRunner

from amc_tf.cli import main
from amc_tf.report import page, plots
from amc_tf.report.run_reader import read_run
from amc_tf.report.signature import TensorSpec
from tests.report import runs

HOSTILE = '$x^2$ <img src="http://evil.test/x" onerror=alert(1)>{}|` & \'q\''
VOID = {"meta", "link", "br"}


def format_entry(name, file, accuracy, ms, size):
    figures = {"accuracy": accuracy, "latency_ms": ms, "size_bytes": size, "gzip_bytes": size}
    return {"format": name, "file": file} | figures


def full(folder, **more):
    """A run that has everything a run can have."""
    epochs = [math.exp(-epoch / 4) for epoch in range(12)]
    return runs.run(
        folder, base=runs.figures(0.9, 1.0, latency_ms=20.1), compressed=runs.figures(0.88, 0.5, latency_ms=10.05),
        uniform=runs.figures(0.76, 0.5, latency_ms=10.5), untrained=runs.figures(0.83, 0.5, latency_ms=10.05),
        latency=runs.latency(), tflite="model_int8.tflite",
        formats=[format_entry("float", "model.tflite", 0.88, 10.05, 1_720_000),
                 format_entry("int8", "model_int8.tflite", 0.8745, 4.2, 470_000),
                 format_entry("fp16", "model_fp16.tflite", 0.879, None, 870_000)],
        training={"epochs": 12, "distilled": True, "temperature": 4.0, "weight": 0.7, "history": {
            "loss": [1.5 * left + 0.3 for left in epochs], "accuracy": [0.9 - 0.4 * left for left in epochs],
            "val_accuracy": [None, *(0.88 - 0.4 * left for left in epochs[1:])],
        }}, **more,
    )  # fmt: skip


class ParsedPage(HTMLParser):
    """Text, ids, addresses and elements of a page; fails if an element is not closed."""

    def __init__(self, source):
        super().__init__()
        self.text, self.ids, self.addresses, self.elements, self._open = "", [], [], set(), []
        self.feed(source)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        self._take(attributes)

    def handle_startendtag(self, tag, attributes):
        self.elements.add(tag)
        self._take(attributes)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text += f"{data} "  # neighbours in a table are separate words

    def _take(self, attributes):
        for name, value in attributes:
            assert not name.startswith("on")
            if name == "id":
                self.ids.append(value)
            elif name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.addresses.append(value)


def text(source):
    """The text of a page, with single spaces."""
    return " ".join(ParsedPage(source).text.split())


def page_text(folder):
    """The text of the page of a run, without its pictures, which take time."""
    return text(page.html(read_run(folder), {}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, settings = full(tmp_path_factory.mktemp("page") / "mobile"), dict(matplotlib.rcParams)
    page.write(folder)
    assert dict(matplotlib.rcParams) == settings  # the caller's own plots stay as they are
    return folder


def test_the_table_has_every_format_and_the_headline_the_one_that_ships(folder):
    found = text((folder / "report.html").read_text())
    for part in (
        "accuracy 87.45% −2.55 points, from 90.00%", "latency 4.20 ms 20.9% of 20.10 ms",
        "original base.tflite 90.00% 20.10 3.441 3.194 125.5 857.1",
        "uniform, not fine-tuned 76.00% −14.00 points 10.50 52.2%",
        "compressed, before fine-tuning 83.00% −7.00 points 10.05 50.0%",
        "compressed, fine-tuned, float model.tflite 88.00% −2.00 points 10.05 50.0% 1.720 50.0%",
        "compressed, fine-tuned, int8 model_int8.tflite 87.45% −2.55 points 4.20 20.9% 0.470 13.7%",
        "compressed, fine-tuned, fp16 model_fp16.tflite 87.90% −2.10 points – 0.870 25.3%",
        "2 agent 70.72% 39.2 31.2% −0.2928 1.5", "4 agent ≈ 73.57%", "5 agent failed – – –", "9 refined",
        "it is an output of the model head", "1 of 22 trials failed", "BadPredictions: all NaN. 5",
        "50.0% of the original's time (95% interval 48.0% to 52.0%)", "model Pixel 8", "before: celsius 40.0",
        "with distillation from a teacher (temperature 4, weight 0.7): 83.00% before, 88.00% after",
        "These formats have no measured latency: fp16.", 'context.assets, "model_int8.tflite"', "keras 3.15.1",
    ):  # fmt: skip
        assert part in found


def test_the_page_is_self_contained(folder):
    parsed = ParsedPage((folder / "report.html").read_text())
    assert "script" not in parsed.elements and parsed.elements >= {"svg", "table", "details"}
    assert {address for address in parsed.addresses if not address.startswith("#")} == {"data:,"}
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "@import" not in (folder / "report.html").read_text()


def test_the_same_run_gives_the_same_bytes(folder):
    def files():
        names = ("report.html", "MODEL_CARD.md", *(f"report/{path.name}" for path in (folder / "report").iterdir()))
        return {name: (folder / name).read_bytes() for name in names}

    first = files()
    page.write(folder)
    assert files() == first
    pictures = {name: data for name, data in first.items() if name.endswith(".png")}
    assert set(pictures) == {f"report/{name}.png" for name in ("units", "search", "front", "latency", "training")}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


def test_the_pictures_use_the_colours_of_the_page(folder):
    svg = "".join(re.findall(r"<svg.*?</svg>", (folder / "report.html").read_text(), re.DOTALL))
    assert "var(--blue)" in svg and not set(re.findall(r"(?:fill|stroke): ?(#\w+)", svg))


def test_names_from_users_stay_text_and_the_command_prints_where_the_page_is(tmp_path):
    folder = runs.run(
        tmp_path / "<i>run", free=3, names=HOSTILE, scored_on="<script>", obstacles=["<script>alert(1)</script>"],
        method="magnitude", inputs=[{"name": "<script>", "shape": [1, 2], "dtype": "float32"}],
    )  # fmt: skip
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert (done.exit_code, done.output.strip()) == (0, str(folder / "report.html"))
    parsed = ParsedPage((folder / "report.html").read_text())
    assert not {"img", "script"} & parsed.elements and parsed.text.count("<i>run") == 3  # title, heading and foot
    assert HOSTILE.format(0) in parsed.text and '$x^2$ <img src="http://ev…' in parsed.text  # table and picture
    assert "<script>alert(1)</script>" in parsed.text
    assert "# Model card: `<i>run`" in (folder / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"method": "magnitude", "target": "params", "obstacles": ["a Conv is in the way."]}, "a Conv is in the way."),
        (
            {"reach": {"share": 0.3, "out": [{"layer": "gru", "share": 0.7, "reason": "no rule"}], "exact": True}},
            "Pruning can reach 30.0% of the MACs. Out of reach are: 70.0% gru: no rule",
        ),
        ({"stopped": "search", "interrupted": True, "episodes": 12}, "search was stopped after 12 of 20 episodes"),
        ({"stopped": "search", "interrupted": True, "episodes": 30}, "search was stopped after 30 episodes: the same"),
        ({"stopped": "search", "interrupted": True}, "search was stopped after 20 episodes: the same call goes on"),
        ({"stopped": "fine-tuning", "interrupted": True}, "The fine-tuning was stopped, so the network is the untrain"),
        ({"stopped": ..., "interrupted": True, "episodes": 12}, "search was stopped after 12 of 20 episodes"),
        ({"stopped": ..., "interrupted": True, "episodes": 30}, "The search or the fine-tuning after it was stopped"),
        ({"scored_by": "metric", "base": runs.figures(-2.0, 1.0)}, "metric 0.83 +2.83, from -2"),
        ({"scored_by": "agreement", "scored_on": "generated noise"}, "There were no labels"),
        ({"budget": None, "limit": None, "max_drop": 0.5}, "for the lowest MACs at a loss of at most 0.5 points"),
        ({"budget": "60 MMAC", "limit": 6e7}, "to a budget of 60 MMAC (MACs)"),
        ({"stages": [0.5, 0.25]}, "the search of the last of 3 stages. Costs are relative to the network of stage-2"),
        ({"stages": [0.5]}, "first pruned to 0.5 of the original and trained each time"),
        ({"uniform": None}, "Nothing was fine-tuned"),
        ({"untrained": runs.figures(0.8, 0.5), "scored_on": "train_data"}, "trained on the examples that score it"),
        ({"tried": 0}, "0 networks tried"),
        ({"training": {"epochs": 1, "distilled": False, "history": {}}}, "1 epoch through the training data, without"),
        ({"latency": runs.latency() | {"format": "int8", "ratio_low": None, "ratio_high": None}}, "timed as int8"),
        ({"outputs": [{"name": "y", "shape": [1], "dtype": "uint8"}]}, "no buffer for one of these types"),
    ],
)
def test_every_kind_of_run_has_a_page(tmp_path, more, says):
    assert says in page_text(runs.run(tmp_path / "run", **more))


def test_an_old_run_has_a_page_with_its_pictures(tmp_path):
    folder = runs.old(tmp_path / "run")
    assert set(pictures := plots.draw_all(read_run(folder))) == {"units", "search", "front"}
    found = text(page.html(read_run(folder), pictures))
    assert "compressed model.tflite 83.00% −7.00 points" in found and "does not record them" in found
    assert "does not record the inputs and outputs" in found


def test_integer_inputs_have_their_scale_explained(tmp_path):
    found = read_run(runs.run(tmp_path / "run"))
    assert "stands for it" not in text(page.html(found, {}))
    byte = TensorSpec("image", (1, 8), "int8", 0.25, -3)
    said = text(page.html(replace(found, inputs=(byte,)), {}))
    assert "int8 stands for 0.25 × (value + 3)" in said and "to the integer that stands for it" in said


def test_a_search_that_tried_nothing_has_its_pictures(tmp_path):
    folder = runs.run(tmp_path / "run", tried=0, scored_by="metric")
    assert set(plots.draw_all(read_run(folder))) == {"units", "search", "front"}


def test_the_card_has_the_figures(folder):
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| compressed, fine-tuned, int8 | `model_int8.tflite` | 87.45% | 4.20 | 0.470 | 0.470 | 62.7 |" in card
    assert "| input | `image` | 1 × 32 × 32 × 3 | float32 |" in card and "```kotlin" in card
    assert "- `model`: `Pixel 8`" in card and "{{" not in card and "{%" not in card


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_the_command_refuses_a_folder_that_is_no_run_directory_in_one_sentence(tmp_path, name):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(main, ["report", str(tmp_path / name)], prog_name="amc-tf")
    assert done.exit_code == 2 and done.output.startswith("amc-tf: ") and len(done.output.splitlines()) == 1
    assert str(tmp_path / name) in done.output.replace("\n", "")
