from pathlib import Path

import pytest

from eval.compare import compare
from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.records import Prediction
from synthloop.store import Run, write_json, write_rows

CONFIG = {"name": "x", "task": {"name": "word_problems"}, "student": {"model": "m"}}


def finished_run(root: Path, correct: list[bool], start: int = 0) -> Path:
    write_json(root / "config.resolved.json", dump(parse(Config, CONFIG, "x")))
    with Run(root).stage(0, "test").write([]) as writer:
        rows = [
            Prediction(
                id=f"real-{start + index}",
                slice=None,
                response="",
                parsed=None,
                value=float(right),
                correct=right,
                truncated=False,
                prompt_tokens=1,
                completion_tokens=1,
            )
            for index, right in enumerate(correct)
        ]
        write_rows(writer.folder / "eval" / "test.jsonl", rows)
    return root


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "a", [True])
    with pytest.raises(UserError, match="the same run"):
        compare(one, tmp_path / "a" / ".." / "a")


def test_two_runs_are_compared_pair_by_pair_on_the_rows_they_share(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "a", [True] * 60 + [False] * 40)
    other = finished_run(tmp_path / "b", [True] * 50 + [False] * 40, start=10)
    facts = compare(one, other)
    assert facts["n"] == 90
    assert facts["gain"] == 0.0
    assert (facts["only_in_one"], facts["only_in_other"]) == (10, 0)
    better = finished_run(tmp_path / "c", [True] * 80 + [False] * 20)
    facts = compare(better, one)
    assert facts["gain"] == pytest.approx(0.2)
    assert facts["ci_low"] > 0
    assert (facts["wins"], facts["losses"]) == (20, 0)


def test_runs_without_common_rows_or_without_a_test_score_are_refused(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "a", [True])
    with pytest.raises(UserError, match="share no row"):
        compare(one, finished_run(tmp_path / "b", [True], start=5))
    write_json(tmp_path / "c" / "config.resolved.json", dump(parse(Config, CONFIG, "x")))
    with pytest.raises(UserError, match="no `test` scores yet"):
        compare(one, tmp_path / "c")
