"""The driver: order, resume, limits, shared requests, one engine at a time; over scripted engines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from generate.context import Ask, Conversation, Outcome, Reject
from generate.driver import Counts, drive
from generate.roles import Engines, Member
from synthloop.errors import StageFailed
from synthloop.journal import Journal, request_key
from synthloop.records import Message, Request
from tests.generate import rows, scripted
from tests.generate.scripted import Killed, Log


@pytest.fixture(autouse=True)
def clear_log() -> None:
    Log.clear()


def member(model: str = "a", **args: Any) -> Member:
    config = scripted.Config(model=model, args=args)
    return Member(model, "tests.generate.scripted", config, {}, None, {"model": model})


def ask(text: str, model: str = "a", seed: int = 0) -> Ask:
    request = Request(id="any", role="teacher", messages=(Message(role="user", content=text),), sampling={"seed": seed})
    return Ask(request, model, model, request_key({"model": model}, request))


def talk(number: int, votes: int = 3) -> Conversation:
    """Two steps: a problem, then votes that depend on it."""
    problem = yield ask(f"problem {number}")
    solutions = yield [ask(problem, seed=i) for i in range(votes)]
    if number % 5 == 4:
        return Reject("every fifth")
    return rows.candidate(number, input=str(problem), completion=" ".join(solutions))


def run(conversations: Any, journal: Path, *members: Member, max_in_flight: int = 1024) -> tuple[list[Outcome], Counts]:
    with Journal(journal, "generate") as opened, Engines(members or [member()]) as engines:
        return drive(conversations, engines, opened, max_in_flight=max_in_flight)


def test_outcomes_keep_the_order_of_the_conversations_whatever_the_engine_does(tmp_path: Path) -> None:
    first, counts = run(map(talk, range(40)), tmp_path / "a", member(shuffle=1))
    second, _ = run(map(talk, range(40)), tmp_path / "b", member(shuffle=2), max_in_flight=3)
    assert first == second
    assert [isinstance(one, Reject) for one in first] == [number % 5 == 4 for number in range(40)]
    assert counts.requests == counts.asked == 160
    assert counts.prompt_tokens == 160 * 7


def test_the_batch_is_kept_full_and_never_over_the_limit(tmp_path: Path) -> None:
    run(map(talk, range(100)), tmp_path / "a", max_in_flight=16)
    assert Log.most_in_flight == 16


@pytest.mark.parametrize("die_after", [1, 37, 100, 150])
def test_a_killed_drive_resumes_and_asks_nothing_twice(tmp_path: Path, die_after: int) -> None:
    whole, counts = run(map(talk, range(40)), tmp_path / "whole")
    Log.clear()
    with pytest.raises(Killed):
        run(map(talk, range(40)), tmp_path / "killed", member(die_after=die_after), max_in_flight=8)
    lost = 8  # what was in flight at the kill may be asked again, nothing else
    resumed, recounts = run(map(talk, range(40)), tmp_path / "killed")
    assert resumed == whole
    assert len(Log.asked) <= 160 + lost
    assert recounts.requests == counts.requests
    assert recounts.completion_tokens == counts.completion_tokens
    assert recounts.journal_hits >= die_after


def test_a_finished_journal_answers_without_opening_an_engine(tmp_path: Path) -> None:
    whole, _ = run(map(talk, range(10)), tmp_path / "a")
    Log.clear()
    again, counts = run(map(talk, range(10)), tmp_path / "a")
    assert again == whole
    assert Log.events == []
    assert (counts.asked, counts.journal_hits) == (0, 40)


def test_equal_requests_are_asked_once(tmp_path: Path) -> None:
    def same(number: int) -> Conversation:
        reply = yield [ask("the same"), ask("the same")]
        return rows.candidate(number, completion="".join(reply))

    outcomes, counts = run(map(same, range(20)), tmp_path / "a")
    assert len(outcomes) == 20
    assert len(Log.asked) == counts.requests == 1


class Verdict(BaseModel):
    good: bool


def test_guided_replies_that_cannot_be_read_are_counted_and_told_and_all_of_them_fail_the_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def talk(text: str) -> Conversation:
        """The scripted engine writes what it is told to, which is not always what is read."""
        field = "other" if "odd" in text else "good"
        sampling = {"structured_outputs": {"json": {"type": "object", "properties": {field: {"type": "boolean"}}}}}
        request = ask(text).request.model_copy(update={"sampling": sampling})
        yield ask(text)._replace(schema=Verdict, request=request, key=text)
        return Reject("done")

    with caplog.at_level(logging.WARNING):
        _, counts = run(map(talk, ["a", "b", "odd", "odd endless"]), tmp_path / "a", member())
    assert (counts.guided, counts.unread) == (4, 2)
    assert "2 of 4 replies that were to be JSON cannot be used" in caplog.text
    assert "1 cut off (raise max_tokens in the sampling of the role)" in caplog.text
    with pytest.raises(StageFailed, match="40 of 40 replies that were to be JSON cannot be used: 40 not what"):
        run(map(talk, [f"odd {n}" for n in range(40)]), tmp_path / "b", member())
    with Journal(tmp_path / "b", "generate") as journal:
        assert journal.get("odd 1") is None, "asked for anew by the same command"


def test_an_unserved_request_rejects_its_conversation_alone_and_is_not_journaled(tmp_path: Path) -> None:
    def maybe(number: int) -> Conversation:
        yield [ask("fine"), ask("unservable" if number == 1 else "fine too")]
        return rows.candidate(number)

    outcomes, counts = run(map(maybe, range(3)), tmp_path / "a")
    assert [type(one).__name__ for one in outcomes] == ["Candidate", "Reject", "Candidate"]
    assert outcomes[1] == Reject("engine error: too long")
    assert counts.errors == 1
    with Journal(tmp_path / "a", "generate") as journal:
        assert journal.get(ask("unservable").key) is None
        assert journal.get(ask("fine").key) is not None


def test_a_reply_says_whether_it_was_truncated(tmp_path: Path) -> None:
    def endless() -> Conversation:
        reply = yield ask("endless")
        return Reject("truncated") if reply.truncated else rows.candidate()

    outcomes, counts = run([endless()], tmp_path / "a")
    assert outcomes == [Reject("truncated")]
    assert counts.truncated == 1


def test_a_bug_in_a_recipe_is_raised(tmp_path: Path) -> None:
    def broken() -> Conversation:
        yield ask("x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([broken()], tmp_path / "a")


def test_a_recipe_that_returns_nothing_is_rejected(tmp_path: Path) -> None:
    def nothing() -> Iterator[Ask]:
        yield ask("x")

    outcomes, _ = run([nothing()], tmp_path / "a")
    assert isinstance(outcomes[0], Reject)


def two_models(number: int) -> Conversation:
    first = yield ask(f"problem {number}", "a")
    second = yield ask(first, "b")
    third = yield ask(second, "a")
    return rows.candidate(number, completion=third)


def test_models_that_do_not_fit_together_are_loaded_one_at_a_time(tmp_path: Path) -> None:
    outcomes, _ = run(map(two_models, range(30)), tmp_path / "a", member("a"), member("b"), max_in_flight=7)
    assert len(outcomes) == 30
    assert Log.events == ["open a", "close a", "open b", "close b", "open a", "close a"]


def test_models_that_share_the_device_stay_loaded(tmp_path: Path) -> None:
    members = [member(model, gpu_memory_utilization=0.45) for model in "ab"]
    together, _ = run(map(two_models, range(30)), tmp_path / "a", *members)
    assert sorted(Log.events) == ["close a", "close b", "open a", "open b"]
    Log.clear()
    apart, _ = run(map(two_models, range(30)), tmp_path / "b", member("a"), member("b"))
    assert together == apart


def test_replies_with_a_models_thinking_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def thinking(text: str) -> Conversation:
        yield ask(text)
        return Reject("done")

    # The scripted engine repeats what it is asked.
    _, counts = run(map(thinking, ["<think>so</think> 4", "5"]), tmp_path / "a")
    assert counts.thinking == 1
    assert "1 of 2 replies hold </think>" in caplog.text
