"""People's decisions: the queue, the import, the agreement, and what later rounds make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate import review
from generate.curation import FilterContext
from generate.filters import review as review_filter
from generate.filters import verify
from synthloop.errors import UserError
from synthloop.records import Candidate, Rejection
from synthloop.store import Run, write_json, write_rows
from tests.generate import rows
from tests.generate.runs import build_run
from train.sources import reviewed


def refusal(number: int, filter: str) -> Rejection:
    one = rows.candidate(number)
    return Rejection(
        filter=filter, reason="x: y", candidate_id=one.id, seed_id=one.seed_id, recipe=one.recipe, candidate=one
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Round 1 kept 0..9; `verify` refused 10..15, `novelty` 16."""
    run = build_run(tmp_path / "run", curate={"filters": [{"name": "verify"}, {"name": "novelty"}]})
    write_rows(run.round_dir(1) / "curated.jsonl", [rows.candidate(n) for n in range(10)])
    refused = [*(refusal(n, "verify") for n in range(10, 16)), refusal(16, "novelty")]
    write_rows(run.round_dir(1) / "rejected.jsonl", refused)
    write_json(run.stage(1, "curate").record_path, {})
    return run


def number(id: str) -> int:
    return int(id[-5:])


def decide(path: Path, decisions: dict[int, str]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["decision"] = decisions.get(number(line["id"]), "")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_queue_holds_kept_and_refused_and_does_not_tell_which(run: Run, tmp_path: Path) -> None:
    assert verify.VERIFIES
    assert review.export(run, 1, tmp_path / "q.jsonl", 8) == 8
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert sum(number(line["id"]) < 10 for line in lines) == 4
    assert {frozenset(line) for line in lines} == {
        frozenset({"id", "round", "input", "completion", "answer", "decision", "note"})
    }
    assert review.export(run, 1, tmp_path / "all.jsonl", 100) == 16, "what novelty refused is not for people to decide"
    with pytest.raises(UserError, match="there already"):
        review.export(run, 1, tmp_path / "q.jsonl", 8)


def test_decisions_enter_the_mix_the_filter_and_the_agreement(run: Run, tmp_path: Path) -> None:
    queue = tmp_path / "q.jsonl"
    review.export(run, 1, queue, 100)
    decide(queue, {0: "keep", 1: "reject", 2: "Keep ", 10: "keep", 11: "reject"})
    assert len(review.take(run, queue)) == 5
    found = review.agreement(run)
    assert found["filters_keep_what_people_keep"]["value"] == pytest.approx(2 / 3)
    assert found["filters_keep_what_people_reject"] | {"ci_low": 0, "ci_high": 0} == {
        "value": 0.5, "n": 2, "ci_low": 0, "ci_high": 0,
    }  # fmt: skip

    files = [run.round_dir(1) / "curated.jsonl"]
    mixed, asked = reviewed(run, [rows.candidate(n) for n in range(10)], files)
    assert [number(one.id) for one in mixed] == [0, *range(2, 10), 10]
    assert run.reviews_path in asked

    again = rows.candidate(1, id="r002-new-00001", round=2)
    other: Candidate = rows.candidate(50, input="How deep is the well behind the old mill?", id="r002-new-00002")
    decisions = review_filter.check(review_filter.Config(), [again, other], FilterContext(run, 2))
    assert [one.keep for one in decisions] == [False, True]
    assert (decisions[0].reason or "").startswith("like rejected: r001-repair-00001")
    (first,) = review_filter.check(review_filter.Config(), [again], FilterContext(run, 1))
    assert first.keep, "a round is not judged by what people said after it"


def test_a_correction_is_trained_on_in_place_of_what_was_written(run: Run, tmp_path: Path) -> None:
    queue = tmp_path / "q.jsonl"
    review.export(run, 1, queue, 100)
    lines = {number(line["id"]): line for line in map(json.loads, queue.read_text().splitlines())}
    lines[2] |= {"decision": "keep", "completion": "They are 12 in all.", "answer": 12}
    lines[11] |= {"decision": "keep", "completion": "None is left."}
    lines[3] |= {"decision": "keep", "answer": int(lines[3]["answer"]) if lines[3]["answer"] else ""}
    queue.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    assert len(review.take(run, queue)) == 3
    kept, _ = reviewed(run, [rows.candidate(n) for n in range(10)], [run.round_dir(1) / "curated.jsonl"])
    found = {number(one.id): one for one in kept}
    assert (found[2].completion, found[2].answer) == ("They are 12 in all.", "12")
    assert found[2].lineage["corrected"] == {
        name: getattr(rows.candidate(2), name) for name in ("completion", "answer")
    }
    assert (found[11].completion, found[11].answer) == ("None is left.", rows.candidate(11).answer)
    assert found[3] == rows.candidate(3), "a number in place of its digits is no correction"
    told = review.agreement(run)
    assert told["filters_keep_what_people_keep"]["n"] == 1, "what had to be corrected was not right as it was"


@given(st.sampled_from(["keep", "reject", ""]), st.sets(st.sampled_from(["completion", "answer", "input"])))
def test_no_change_of_a_line_is_lost(decision: str, changed: set[str]) -> None:
    """It is taken as a correction, or it is refused."""
    sample = rows.candidate(1)
    line = review._shown(sample) | dict.fromkeys(changed, "changed")
    try:
        taken = review.correction(sample, line, decision, "x")
    except UserError:
        assert changed
        assert decision != "keep" or "input" in changed
    else:
        assert taken == dict.fromkeys(changed, "changed")


def test_a_line_without_a_decision_is_left_open(run: Run, tmp_path: Path) -> None:
    lines = [{"id": rows.candidate(n).id, "round": 1, "decision": open} for n, open in enumerate(("", None, " "))]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert review.take(run, tmp_path / "q.jsonl") == []


def test_a_later_decision_replaces_an_earlier_one(run: Run, tmp_path: Path) -> None:
    for word in ("keep", "reject"):
        queue = tmp_path / f"{word}.jsonl"
        queue.write_text(json.dumps({"id": rows.candidate(3).id, "round": 1, "decision": word}) + "\n")
        review.take(run, queue)
    assert [one.decision for one in run.reviews().values()] == ["reject"]
    assert review.export(run, 1, tmp_path / "rest.jsonl", 100) == 15


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "r001-repair-00003", "round": 1, "decision": "maybe"}, "'maybe'; expected 'keep', 'reject' or nothing"),
        ({"id": "r001-repair-00016", "round": 1, "decision": "keep"}, "no sample 'r001-repair-00016'"),
        ({"id": "r001-repair-00003", "round": 7, "decision": "keep"}, "found 7"),
        ({"id": "r001-repair-00003", "round": 0, "decision": "keep"}, "not curated"),
        ({"id": "r001-repair-00003", "round": True, "decision": "keep"}, "found True"),
        ({"id": ["r001-repair-00003"], "round": 1, "decision": "keep"}, "has no sample"),
        ({"id": "r001-repair-00003", "round": 1, "decision": "reject"}, "line 2: .* is 'reject' here and 'keep' above"),
        (
            {"id": "r001-repair-00003", "round": 1, "decision": "keep", "completion": "13"},
            "above, with another correction",
        ),
        (
            {"id": "r001-repair-00004", "round": 1, "decision": "keep", "input": "2 + 2?"},
            "'input' of .* was changed, and",
        ),
        (
            {"id": "r001-repair-00004", "round": 1, "decision": "reject", "answer": "99"},
            "decision is 'reject'. Write keep",
        ),
        (
            {"id": "r001-repair-00004", "round": 1, "decision": "", "completion": "5"},
            "decision is ''. Write keep to have",
        ),
        ({"id": "r001-repair-00004", "round": 1, "decision": "keep", "completion": " "}, "expected the corrected text"),
        ({"id": "r001-repair-00004", "round": 1, "decision": "keep", "answer": [5]}, "expected the corrected text"),
        ({"id": "r001-repair-00004", "round": 1, "decision": "keep", "note": "\ud800"}, "line 2: .*surrogate pair"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(run: Run, tmp_path: Path, line: object, message: str) -> None:
    good = {"id": rows.candidate(3).id, "round": 1, "decision": "keep"}
    (tmp_path / "q.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(UserError, match=message):
        review.take(run, tmp_path / "q.jsonl")
    assert run.reviews() == {}


def test_without_decisions_the_mix_reads_nothing_more(run: Run) -> None:
    assert reviewed(run, [rows.candidate(1)], [run.round_dir(1) / "curated.jsonl"]) == ([rows.candidate(1)], [])
