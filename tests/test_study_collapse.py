"""The study of recursive training, tiny: it runs to its end, its parts do as they say, and what is there is found."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.trend import Rule
from scripts import curves_svg, detection, recursion, study_collapse, word_lm
from scripts.detection import Case
from scripts.recursion import ARMS, SIGNALS
from scripts.study_collapse import QUICK, Job, run_job
from synthloop.store import read_json
from tests.real_data import real_data

CASE = Case("four rounds", Rule(horizon=4))


@pytest.fixture(scope="module")
def texts() -> list[list[str]]:
    return recursion.load_texts(None)


def test_it_runs_to_its_end_without_any_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--quick", "--data", str(tmp_path / "gone"), "--out", str(tmp_path), "--seeds", "2", "--rounds", "3"]
    options += ["--controls", "3", "--null-chains", "2", "--processes", "1"]
    monkeypatch.setattr("sys.argv", ["study_collapse", *options])
    study_collapse.main()
    curves = read_json(tmp_path / "curves.json")
    assert curves["data"] == "pydoc_data.topics"
    assert set(curves["chains"]) == {*ARMS, "controls"}
    assert all(len(chain) == 4 for arm in ARMS for chain in curves["chains"][arm].values())
    assert all(set(one) == set(SIGNALS) for one in curves["chains"]["replace"]["1"])
    found = read_json(tmp_path / "detection.json")
    assert set(found) == {"3 rounds", "open horizon", "3 rounds, no margin", "3 rounds, no controls"}
    assert found["3 rounds"]["nulls"]["normal"]["chains"] == 2
    ET.parse(tmp_path / "curves.svg")


def test_a_chain_is_the_same_every_time_and_round_0_the_same_for_every_arm() -> None:
    first, again = (run_job(Job(3, "replace"), None, QUICK, 1) for _ in range(2))
    assert first == again
    assert run_job(Job(3, "capped"), None, QUICK, 1)[0] == first[0]
    assert run_job(Job(3, 0), None, QUICK, 1) != run_job(Job(3, 1), None, QUICK, 1)


def test_the_arms_mix_as_they_say(texts: list[list[str]]) -> None:
    world = recursion.make_world(texts, QUICK, 0)
    pools = [[[2, 3]] * QUICK.num_rows, [[4, 5]] * QUICK.num_rows]

    def shares(arm: str) -> tuple[int, int, int]:
        rows = recursion.training_rows(world, arm, pools)
        return len(rows) - rows.count([2, 3]) - rows.count([4, 5]), rows.count([2, 3]), rows.count([4, 5])

    n, real = QUICK.num_rows, QUICK.num_real
    assert shares("replace") == (0, 0, n)
    assert shares("10% real") == (n // 10, 0, n - n // 10)
    assert shares("50% real") == (n // 2, 0, n // 2)
    assert shares("real only") == (n, 0, 0)
    assert shares("accumulate") == (real, n, n)
    capped = shares("capped")
    assert (capped[0], capped[1] + capped[2]) == (real, real)


def test_windows_hold_the_words_before_and_no_end_of_what_was_cut() -> None:
    before, after = word_lm.windows([[5, 6], [7] * word_lm.MAX_WORDS])
    assert before[:3].tolist() == [[0, 0, 0, 0], [0, 0, 0, 5], [0, 0, 5, 6]]
    assert after[:4].tolist() == [5, 6, 0, 7]
    assert len(after) == 3 + word_lm.MAX_WORDS


def test_the_model_learns_what_it_is_shown() -> None:
    rows = [[2, 3, 4], [5, 6, 7]] * 20
    model = word_lm.train(rows, num_words=8, steps=150, seed=0)
    written = word_lm.generate(model, 50, seed=1)
    assert sum(row in rows for row in written) > 45
    nats, words = word_lm.nll(model, rows[:2])
    assert words.tolist() == [2, 3, 4, 0, 5, 6, 7, 0]
    assert nats.sum() == pytest.approx(2 * np.log(2), abs=0.2), "the first word is a coin"


def made_up(slope: float) -> dict[str, Any]:
    """Curves where the loss of `replace` rises by `slope` a round and everything else is noise."""
    generator = np.random.default_rng(0)

    def rounds(count: int, slope: float = 0.0) -> list[dict[str, float]]:
        noise = generator.normal(size=(count, len(SIGNALS)))
        rows = [dict(zip(SIGNALS, (5 + 0.01 * one).tolist(), strict=True)) for one in noise]
        return [{**row, "nll": row["nll"] + slope * round} for round, row in enumerate(rows)]

    chains: dict[str, Any] = {
        arm: {str(s): rounds(5, slope if arm == "replace" else 0) for s in range(4)} for arm in ARMS
    }
    return {"rounds": 4, "chains": {**chains, "controls": {str(s): rounds(6) for s in range(4)}}}


def test_what_rises_is_found_and_what_does_not_is_not() -> None:
    curves = made_up(0.3)
    rising, flat = (detection.judge_arm(curves, arm, CASE) for arm in ("replace", "real only"))
    assert set(rising["first_stop"].values()) == {3}
    assert next(iter(rising["first_signals"])) == "nll"
    assert set(flat["first_alarm"].values()) == {None}
    change, late = detection.growth(curves, "replace", "nll")
    assert change[0] == pytest.approx(0.9, abs=0.05)
    assert late[1] < 0.3 < late[2]


def test_null_chains_alarm_at_most_as_often_as_stated() -> None:
    for kind in ("normal", "resampled"):
        found = detection.judge_null(made_up(0.0), kind, CASE, 100)
        assert found["ci_low"] <= 0.05, found
        assert found["alarms"] == detection.judge_null(made_up(0.0), kind, CASE, 100)["alarms"], "seeded"


def test_bands_and_medians() -> None:
    # t with 2 degrees of freedom: 4.3027 * 1 / sqrt(3)
    assert detection.band([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert detection.median_round([3, None, 4]) == 4
    assert detection.median_round([None, None, 4]) is None


def test_the_drawing_is_well_formed_whatever_is_flat(tmp_path: Path) -> None:
    bands = {arm: {"a <b>": [(1.0, 1.0, 1.0)] * 3} for arm in ARMS}
    curves_svg.write(tmp_path / "c.svg", bands, ["a <b>"], ARMS)
    root = ET.parse(tmp_path / "c.svg").getroot()
    assert len(root.findall(".//{*}polyline")) == len(ARMS)


def test_gsm8k_is_read() -> None:
    rows = recursion.load_texts(real_data("gsm8k"))
    assert len(rows) > 7_000
    assert rows[0][:3] == ["Natalia", "sold", "clips"]
