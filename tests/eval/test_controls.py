"""Control values: from the rounds of real-only runs, and from draws of the real rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval import controls
from eval.collapse import read_controls
from synthloop.config import Config, dump, parse
from synthloop.errors import UserError
from synthloop.records import Candidate, Example
from synthloop.store import Run, read_json, write_json, write_rows

SETTINGS: dict[str, Any] = {
    "name": "t",
    "task": {"name": "word_problems"},
    "student": {"model": "m"},
    "generate": {"num_seeds": 20},
}


def make_run(
    root: Path, losses: list[float], synthetic_rows: int = 0, words: tuple[int, ...] = (), **sections: Any
) -> Run:
    """A run whose rounds 0, 1, ... measured these losses, and nothing else, at so many words of a reply."""
    write_json(root / "config.resolved.json", dump(parse(Config, {**SETTINGS, **sections}, "config")))
    run = Run(root)
    for round, loss in enumerate(losses):
        with run.stage(round, "eval").write([]) as stage:
            found: dict[str, Any] = {"signals": {"nll": loss, "entropy": None}}
            if words:
                found["measured_on"] = {"words_per_reply": words[round]}
            write_json(stage.folder / "collapse.json", found)
        if round:
            write_json(run.round_dir(round) / "mix.json", {"synthetic_rows": synthetic_rows})
    return run


def keep_rows(run: Run, count: int) -> None:
    """Real rows, and `count` synthetic ones that round 1 kept."""
    examples = [
        Example(id=f"e{n}", input=f"What is {n} and {n * n}?", messages=(), completion=f"It is {n + n * n}.")
        for n in range(40)
    ]
    write_rows(run.split("train"), examples)
    kept = Candidate(id="c", round=1, recipe="r", seed_id="s", input="x", messages=(), completion="y", answer=None)
    write_rows(run.round_dir(1) / "curated.jsonl", [kept] * count)


def test_every_round_after_0_of_every_control_run_is_a_value(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [9.0])
    others = [
        make_run(tmp_path / "a", [9.0, 1.0, 1.1], seed=1, rounds=2),
        make_run(tmp_path / "b", [9.0, 1.2], seed=2, generate={"num_seeds": 5}),
    ]
    out = tmp_path / "controls.json"
    paths = [str(one.root) for one in others]
    controls.main(controls.parser().parse_args(["--run", str(run.root), "--out", str(out), *paths]))
    assert read_json(out) == {"runs": ["a", "b"], "signals": {"nll": [1.0, 1.1, 1.2]}}
    assert read_controls(out) == {"nll": [1.0, 1.1, 1.2]}
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        controls.main(controls.parser().parse_args(["--run", str(run.root), "--out", str(out), *paths]))
    assert out.read_text() == "mine"


def test_kept_rows_are_calibrated_by_draws_of_the_real_ones(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [9.0, 1.0], synthetic_rows=12)
    keep_rows(run, 12)
    found = controls.collect(run, [make_run(tmp_path / "a", [9.0, 1.0])])
    assert {len(values) for name, values in found.items() if name.startswith("data_")} == {controls.NUM_DRAWS}
    assert len(set(found["data_entropy"])) > 1
    assert found == controls.collect(run, [make_run(tmp_path / "b", [9.0, 1.0])]), "drawn by the seed"
    assert all(1 < value <= 12 for value in found["data_vendi"])


def test_mistakes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [9.0])
    mixed = make_run(tmp_path / "mixed", [9.0, 1.0], synthetic_rows=3)
    with pytest.raises(UserError, match="round 1 was trained on 3 synthetic rows"):
        controls.collect(run, [mixed])
    other = make_run(tmp_path / "other", [9.0, 1.0], student={"model": "another"}, collapse={"num_prompts": 8})
    with pytest.raises(UserError, match="student, collapse differ"):
        controls.collect(run, [other])
    with pytest.raises(UserError, match="no evaluated round after round 0"):
        controls.collect(run, [make_run(tmp_path / "short", [9.0])])


@pytest.mark.parametrize("content", [[], {}, {"nll": [1.0]}, {"signals": {}}, {"signals": {"nll": "low"}}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    write_json(tmp_path / "c.json", content)
    with pytest.raises(UserError, match="eval.controls"):
        read_controls(tmp_path / "c.json")
    with pytest.raises(UserError, match="no such file"):
        read_controls(tmp_path / "gone.json")


def test_the_file_tells_at_how_many_words_of_a_text_diversity_was_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", [9.0, 1.0], synthetic_rows=12)
    keep_rows(run, 12)

    def written(*words: int) -> Any:
        other = make_run(tmp_path / f"{words}", [9.0, 1.0, 1.1], words=(0, *words))
        out = tmp_path / f"{words}.json"
        controls.main(controls.parser().parse_args(["--run", str(run.root), "--out", str(out), str(other.root)]))
        return read_json(out)["measured_on"]

    assert written(4, 4) == {"words_per_reply": 4, "words_per_row": 2}
    assert written(4, 2) == {"words_per_row": 2}
    assert "The controls read [2, 4] words of a reply: its diversity cannot be compared" in caplog.text
