"""The curves of a sweep: their words and their drawing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from eval import curve, sweep
from synthloop.trials import Trained, Trial


def scored(values: dict[float, float], axis: str = "amount") -> list[tuple[Trained, list[float]]]:
    found = []
    for value, mean in values.items():
        for seed in (0, 1):
            trial = Trial.model_validate({"axis": axis, "value": value, "seed": seed})
            trained = Trained(trial=trial, rows=10, synthetic_rows=4, tokens=90, steps=2, seconds=1.0)
            generator = np.random.default_rng([seed, round(100 * value)])
            found.append((trained, [float(one) for one in generator.random(400) < mean]))
    return found


def told(values: dict[float, float]) -> str:
    facts = sweep.axis_facts(scored(values), "amount", 0)
    assert facts is not None
    return sweep.told(facts["curve"])


def test_the_fit_in_words() -> None:
    ratios = (0, 0.5, 1, 2, 4)
    saturating = told({r: 0.2 + 0.6 * (1 - np.exp(-r / 0.8)) for r in ratios})
    assert saturating.startswith("score = ")
    assert "(1 - exp(-x / " in saturating
    assert "no saturation in sight" in told({r: 0.2 + 0.15 * r for r in ratios})
    assert "does not fit" in told({0: 0.1, 0.5: 0.9, 1: 0.1, 2: 0.9, 4: 0.1})
    assert "fewer than 4 values" in told({0: 0.2, 1: 0.5})


def test_it_is_written_printed_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = scored({0: 0.2, 1: 0.4, 2: 0.5, 4: 0.52}) + scored({0: 0.3, 0.5: 0.3, 1: 0.2}, "share")
    sweep.write(tmp_path, both, 0)
    facts = json.loads((tmp_path / "sweep.json").read_text())
    assert facts["split"] == "gate"
    assert [len(facts["axes"][axis]["trials"]) for axis in ("amount", "share")] == [8, 6]
    assert curve.Curve(**facts["axes"]["amount"]["curve"]).ratios == [0, 1, 2, 4]
    drawn = ElementTree.parse(tmp_path / "sweep.svg").getroot()
    assert len(drawn.findall(".//{*}circle")) == 14
    width, height = map(float, drawn.attrib["viewBox"].split()[2:])
    points = [point.split(",") for line in drawn.iterfind(".//{*}polyline") for point in line.attrib["points"].split()]
    assert all(0 <= float(x) <= width / 2 and 0 <= float(y) <= height for x, y in points)
    assert "share of synthetic data, at equal size" in capsys.readouterr().out


def test_an_axis_without_trials_is_left_out(tmp_path: Path) -> None:
    sweep.write(tmp_path, scored({0: 0.2, 1: 0.4}), 0)
    assert json.loads((tmp_path / "sweep.json").read_text())["axes"].keys() == {"amount"}
