"""Guided replies, scored texts, passages: what recipes and filters share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from generate.asking import Asker, Reply
from generate.curation import KEEP, FilterContext, Judging, refuse
from generate.documents import DocumentsConfig, cut, draw, read_passages
from synthloop.errors import UserError
from synthloop.records import Candidate, Completion
from tests.generate import rows, scripted
from tests.generate.play import desk
from tests.generate.runs import build_run
from tests.generate.scripted import Log


class Verdict(BaseModel):
    score: int = Field(ge=1, le=5)
    reason: str


def asker(place: str = "here") -> Asker:
    return Asker(desk(), place, {"seed": rows.seed()})


def test_a_schema_guides_the_decoding_and_reads_the_reply() -> None:
    ask = asker().ask("teacher", "variation.jinja", schema=Verdict)
    assert ask.request.sampling["structured_outputs"] == {"json": Verdict.model_json_schema()}
    base: dict[str, Any] = {"request_id": "", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1}
    good, odd, bad, cut_off = (
        Reply(Completion(text=text, **base))
        for text in (
            '{"score": 4, "reason": "x"}',
            '{"score": 1, "reason": "a\x1db"}',
            '{"score": 9, "reason": ""}',
            "{",
        )
    )
    assert good.read(Verdict) == Verdict(score=4, reason="x")
    assert odd.read(Verdict) == Verdict(score=1, reason="a\x1db")
    assert bad.read(Verdict) is None
    assert cut_off.read(Verdict) is None


def test_a_scored_text_gives_the_logprobs_of_the_completion_alone() -> None:
    ask = asker().likelihood("student", rows.example().messages, "#### 4")
    ids = ask.request.prompt_token_ids
    assert ids is not None
    assert 0 < ask.num_given < len(ids)
    told = (None, *[-1.0] * (ask.num_given - 1), *[-0.25] * (len(ids) - ask.num_given))
    completion = Completion(
        request_id="", text="x", finish_reason="length", prompt_tokens=1, completion_tokens=1, prompt_logprobs=told
    )
    assert set(Reply(completion, ask.num_given).logprobs) == {-0.25}
    assert len(Reply(completion, ask.num_given).logprobs) == len(ids) - ask.num_given


def test_a_conversation_draws_the_same_when_it_runs_again() -> None:
    assert asker().rng("a").random() == asker().rng("a").random()
    assert len({asker().rng("a").random(), asker().rng("b").random(), asker("there").rng("a").random()}) == 3


def test_filters_converse_through_the_journal(tmp_path: Path) -> None:
    run = build_run(tmp_path, roles={"judge": scripted.ROLE})
    batch = [rows.candidate(n) for n in range(6)]

    def judge(one: Candidate, asker: Asker) -> Judging:
        reply = yield asker.ask("judge", "solve.jinja", seed=rows.seed(), prompt=one.input, schema=Verdict)
        verdict = reply.read(Verdict)
        assert verdict is not None
        return KEEP if verdict.score > 2 else refuse("low: judged", verdict.score)

    Log.clear()
    with FilterContext(run, 1) as ctx:
        first = ctx.converse("mine", batch, judge)
    num_asked = len(Log.asked)
    with FilterContext(run, 1) as ctx:
        again = ctx.converse("mine", batch, judge)
        assert ctx.converse("mine", [], judge) == []
    assert first == again
    assert num_asked == len(Log.asked) == 6
    assert {one.keep for one in first} == {True, False}


def test_a_request_that_cannot_be_served_is_a_refusal(tmp_path: Path) -> None:
    def judge(one: Candidate, asker: Asker) -> Judging:
        yield asker.ask("judge", "solve.jinja", seed=rows.seed(), prompt=one.input)
        return KEEP

    with FilterContext(build_run(tmp_path, roles={"judge": scripted.ROLE}), 1) as ctx:
        batch = [rows.candidate(number, input=f"fine {number}") for number in range(19)]
        *_, decision = ctx.converse("mine", [*batch, rows.candidate(19, input="unservable")], judge)
    assert decision.reason == "engine error: too long"


def test_documents_are_cut_at_paragraphs_then_sentences_then_words() -> None:
    assert cut("a b c\n\nd e\n\nf", 5) == ["a b c\n\nd e", "f"]
    assert cut("One two. Three four five. Six.", 4) == ["One two.", "Three four five. Six."]
    assert cut("a b c d e", 2) == ["a b", "c d", "e"]
    assert cut("", 3) == []


def test_passages_of_a_folder_and_of_rows(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "pump.md").write_text("Oil the pump.\n\nThen start it.")
    (folder / "a.txt").write_text("First.")
    (folder / "skip.pdf").write_bytes(b"%PDF")
    found = read_passages(folder, 3)
    assert [(one.id, one.text) for one in found] == [
        ("a.txt#0", "First."), ("sub/pump.md#0", "Oil the pump."), ("sub/pump.md#1", "Then start it."),
    ]  # fmt: skip
    rows_file = tmp_path / "rows.jsonl"
    rows_file.write_text(json.dumps({"text": "Hello there.", "title": "T"}) + "\n")
    assert [one.title for one in read_passages(rows_file, 9)] == ["T"]
    cfg = DocumentsConfig(documents=folder, max_words=3)
    assert draw(cfg, rows.seed(), asker(), 2) == draw(cfg, rows.seed(), asker(), 2)
    assert len(draw(cfg, rows.seed(), asker(), 9)) == 3
    assert [one.id for one in draw(DocumentsConfig(), rows.seed(), asker(), 2)] == ["real-0", "real-100"]


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"title": "no text"}', "line 1"), ("[]", "a JSON array"), ('{"text": 1}', "line 1"), ("{", "not JSON lines")],
)
def test_bad_rows_name_their_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_passages(path, 9)
    with pytest.raises(UserError, match="holds no text"):
        read_passages(tmp_path, 9)
    with pytest.raises(UserError, match="found nothing at"):
        read_passages(tmp_path / "nowhere", 9)
