"""Scores by a judge: by scripted ones, and once by a real model under guided decoding."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.judging import judge, read
from eval.run import main, parser
from synthloop.chat import load_tokenizer
from synthloop.check import check_config
from synthloop.config import Config, dump, parse
from synthloop.errors import StageFailed, UserError
from synthloop.records import Completion, Example, Message, Prediction
from synthloop.splits import prepare
from synthloop.storable import storable
from synthloop.store import Run, read_rows, stage_settings, write_json
from synthloop.task import open_task
from tests.engines.conftest import VLLM_ARGS
from tests.eval import scripted_judge

ROOT = Path(__file__).parents[2]
JUDGE = {"engine": "tests.eval.scripted_judge"}


@pytest.fixture(autouse=True)
def nobody_asked() -> None:
    scripted_judge.ASKED.clear()


def make_run(root: Path, *judges: str, student: dict[str, Any] | None = None, **changes: Any) -> Run:
    data = root / "data-of-the-user"
    data.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 40), ("test", 6)):
        rows = [{"input": f"Say {split} {n}.", "output": f"{split} {n}"} for n in range(count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "t",
        "task": {"name": "jsonl", "path": str(data), "train": "train.jsonl", "test": "test.jsonl", "scorer": "judge"},
        "student": student or {"model": "m"},
        "roles": {"judge": [{**JUDGE, "model": model} for model in judges]},
        "splits": {"probe": 8, "gate": 8},
        "train": {"accelerate": str(ROOT / "configs/accelerate/cpu.yaml")},
    }
    config = parse(Config, settings | changes, "c.yaml")
    write_json(root / "config.resolved.json", dump(config))
    return Run(root)


def examples(count: int) -> list[Example]:
    turn = (Message(role="user", content="x"),)
    return [
        Example(id=f"e{n}", input=f"Say {n}.", messages=turn, completion=f"<{n}>", answer=str(n)) for n in range(count)
    ]


def scores(run: Run, texts: list[str]) -> list[tuple[float, bool]]:
    task = open_task(run.config.task.name, run.config.task.settings)
    found = judge(run, task, examples(len(texts)), texts, "gate")
    return [(one.value, one.correct) for one in found if one is not None]


def test_a_judge_says_what_is_right(tmp_path: Path) -> None:
    assert scores(make_run(tmp_path, "fair"), ["it is <0>", "no idea", "<2>"]) == [
        (1.0, True),
        (0.0, False),
        (1.0, True),
    ]


def test_of_several_judges_the_share_counts_and_more_than_half_decide(tmp_path: Path) -> None:
    assert scores(make_run(tmp_path / "a", "fair", "harsh"), ["<0>"]) == [(0.5, False)]
    assert scores(make_run(tmp_path / "b", "fair", "fair", "harsh"), ["<0>"]) == [(pytest.approx(2 / 3), True)]


def test_a_verdict_amid_words_is_one(tmp_path: Path) -> None:
    assert scores(make_run(tmp_path, "chatty"), ["<0>", "x"]) == [(1.0, True), (0.0, False)]


@pytest.mark.parametrize(
    ("judges", "told"),
    [
        (("mute",), r"judging gate: 2 of 2 requests were not served.*\n.*The reply is not JSON \('I think so.'\)"),
        (("fair", "mute"), "judging gate: 2 of 2"),
        (("hasty",), r"The reply was cut off .*Raise roles.judge.sampling.max_tokens"),
    ],
)
def test_a_judge_without_verdicts_fails_the_stage(tmp_path: Path, judges: tuple[str, ...], told: str) -> None:
    with pytest.raises(StageFailed, match=told) as failed:
        scores(make_run(tmp_path, *judges), ["<0>", "x"])
    assert ("max_tokens" in str(failed.value)) == ("hasty" in judges)


def test_an_answer_without_a_verdict_is_no_wrong_answer(tmp_path: Path) -> None:
    texts = [f"<{n}>" for n in range(4)] + ["it is 5"]
    run = make_run(tmp_path, "mixed", max_error_share=0.5)
    task = open_task(run.config.task.name, run.config.task.settings)
    told: list[dict[str, Any]] = []
    found = judge(run, task, examples(5), texts, "gate", told.extend)
    assert [one and one.value for one in found] == [1.0, 1.0, 1.0, 1.0, None]
    assert told == [{"role": "judge", "message": "The reply is not JSON ('I think so.').", "count": 1}]
    scripted_judge.ASKED.clear()
    judge(run, task, examples(5), texts, "gate")
    assert len(scripted_judge.ASKED) == 1, "what has no verdict is asked for anew, and nothing else"


@given(reason=st.text(max_size=600), correct=st.booleans(), fenced=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_reason_makes_a_verdict(reason: str, correct: bool, fenced: bool) -> None:
    text = json.dumps({"reason": reason, "correct": correct})
    reply = f"```json\n{text}\n```" if fenced else text
    verdict = read(completion(reply))
    assert verdict is not None
    assert (verdict.reason, verdict.correct) == (storable(reason), correct)


def test_a_reply_is_judged_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, "fair")
    first = scores(run, ["<0>", "b"])
    assert len(scripted_judge.ASKED) == 2
    assert scores(run, ["<0>", "b"]) == first
    assert len(scripted_judge.ASKED) == 2
    scores(run, ["<0>", "c"])
    assert len(scripted_judge.ASKED) == 3


def test_the_judge_sees_problem_reference_answer_and_instructions(tmp_path: Path) -> None:
    run = make_run(tmp_path, "fair")
    settings = {**run.config.task.settings, "judge_instructions": "Spelling does not matter."}
    judge(run, open_task("jsonl", settings), examples(1), ["my answer"], "gate")
    (request,) = scripted_judge.ASKED
    shown = request.messages[-1]["content"]
    assert all(text in shown for text in ("Say 0.", "<0>", "my answer", "Spelling does not matter."))
    assert request.sampling["temperature"] == 0.0
    assert request.sampling["structured_outputs"]["json"]["required"] == ["reason", "correct"]


@pytest.mark.parametrize("text", ["", "true", '{"reason": "x"}', '{"reason": "x", "correct": "per', "[1]"])
def test_what_is_no_verdict(text: str) -> None:
    assert read(completion(text)) is None


def completion(text: str) -> Completion:
    return Completion(request_id="a", text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)


def test_another_judge_makes_another_evaluation(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "a", "fair"), make_run(tmp_path / "b", "harsh")
    for stage in ("eval", "test", "search"):
        assert stage_settings(one.config, stage)["roles"] != stage_settings(other.config, stage)["roles"]
    assert "roles" not in stage_settings(one.config, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roles": {}}, "'roles.judge' is missing: who is to say whether a reply is right?"),
        ({"roles": {"judge": {"model": "student"}}}, "'roles.judge' is the student, which cannot judge itself"),
        (
            {
                "roles": {"judge": {**JUDGE, "model": "fair"}, "teacher": {**JUDGE, "model": "fair"}},
                "generate": {"recipes": [{"name": "repair"}]},
            },
            "'curate.filters.1' (verify) compares answers as text",
        ),
    ],
)
def test_what_a_judged_task_needs(tmp_path: Path, tiny_model: Path, changes: dict[str, Any], message: str) -> None:
    student = {"model": str(tiny_model)}
    with pytest.raises(UserError) as raised:
        check_config(make_run(tmp_path, "fair", student=student, **changes).config, "c.yaml")
    assert message in str(raised.value)


def test_a_judged_task_without_recipes_has_no_mistakes(tmp_path: Path, tiny_model: Path) -> None:
    check_config(make_run(tmp_path, "fair", student={"model": str(tiny_model)}).config, "c.yaml")


def test_judge_settings_of_another_scorer_are_refused(tmp_path: Path) -> None:
    settings = {**make_run(tmp_path, "fair").config.task.settings, "scorer": "exact", "judge_instructions": "x"}
    with pytest.raises(ValueError, match="`judge_instructions` is read by scorer 'judge' only"):
        open_task("jsonl", settings)


@pytest.mark.slow
def test_a_real_model_judges_the_students_answers(tmp_path: Path, tiny_model: Path) -> None:
    """Random weights: the verdicts mean nothing, but guided decoding makes each of them one."""
    student = {"model": str(tiny_model), "args": VLLM_ARGS}
    quote = load_tokenizer(str(tiny_model)).convert_tokens_to_ids('"')  # without it no reason ends
    roles = {"judge": {**student, "sampling": {"max_tokens": 220, "logit_bias": {str(quote): 100}}}}
    sampling = {"temperature": 0.0, "max_tokens": 6}
    run = make_run(
        tmp_path / "run",
        student=student,
        roles=roles,
        eval={"sampling": sampling, "max_examples": {"probe": 4, "gate": 4}},
        collapse={"num_prompts": 4, "sampling": sampling},
    )
    prepare(run.config, run.root)
    main(parser().parse_args(["--run", str(run.root), "--round", "0"]))
    predictions = read_rows(run.round_dir(0) / "eval" / "gate.jsonl", Prediction)
    assert len(predictions) == 4
    assert {one.value for one in predictions} <= {0.0, 1.0}
    with sqlite3.connect(run.journal_path) as db:
        replies = [json.loads(row[0])["text"] for row in db.execute("SELECT reply FROM replies WHERE role = 'judge'")]
    verdicts = [json.loads(text, strict=False) for text in replies]
    assert len(verdicts) == 8
    assert all(isinstance(one["correct"], bool) for one in verdicts)
    signs = json.loads((run.round_dir(0) / "collapse.json").read_text())
    assert signs["signals"]["nll"] > 0, "the student was loaded again after its judge"
    assert signs["signals"]["pass_at_k"] is None
