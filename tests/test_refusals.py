"""When a stage has failed because it could not ask, and what it then says."""

import logging

import pytest

from synthloop.errors import StageFailed
from synthloop.records import Completion
from synthloop.refusals import NUM_FIRST, Refusals


def reply(error: str | None = None) -> Completion:
    reason = "stop" if error is None else "error"
    return Completion.model_validate(
        {
            "request_id": "r",
            "text": "",
            "finish_reason": reason,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "error": error,
        }
    )


def count(refusals: Refusals, errors: int, served: int, error: str = "HTTP 400: no") -> None:
    """Served ones come back first."""
    for number in range(errors + served):
        refusals.submitted(str(number))
    for number in reversed(range(errors + served)):
        refusals.add(str(number), "teacher", reply(error if number < errors else None))


@pytest.mark.parametrize(
    ("errors", "served", "share", "fails"),
    [
        (1, 19, 0.05, False),
        (2, 18, 0.05, True),
        (1, 0, 0.05, True),
        (0, 0, 0.05, False),
        (0, 20, 0.0, False),
        (1, 99, 0.0, True),
        (10, 30, 0.25, False),
        (11, 29, 0.25, True),
        (40, 0, 1.0, False),
    ],
)
def test_up_to_the_share_requests_are_left_out_and_told(
    errors: int, served: int, share: float, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals(share, "generate")
    count(refusals, errors, served)
    if fails:
        with pytest.raises(StageFailed, match=rf"generate: {errors} of {errors + served} requests were not served"):
            refusals.check()
        return
    with caplog.at_level(logging.WARNING):
        refusals.check()
    told = f"{errors} of {errors + served} requests were not served and are left out. teacher: HTTP 400: no ({errors})"
    assert (told in caplog.text) == (errors > 0)


def test_a_stage_stops_when_none_of_its_first_requests_was_served() -> None:
    refusals = Refusals(0.5)
    with pytest.raises(StageFailed, match=f"none of the first {NUM_FIRST} requests was served"):
        count(refusals, NUM_FIRST, 10_000)
    assert refusals.requests == 10_000 + NUM_FIRST
    count(Refusals(0.5), NUM_FIRST - 1, 10_000)
    count(Refusals(1.0), 10 * NUM_FIRST, 0)


def test_requests_that_fail_at_once_do_not_hide_those_still_under_way() -> None:
    """An engine gives back what it refuses before it has answered anything, whatever the order it was asked in."""
    refusals = Refusals(0.05)
    for number in range(2000):
        refusals.submitted(str(number))
    for number in range(1, 2 * NUM_FIRST):
        refusals.add(str(number), "teacher", reply("too long"))


def test_the_message_counts_kinds_and_names_what_helps() -> None:
    refusals = Refusals(0.05)
    for number in range(5):
        refusals.add(str(number), "judge", reply(f"The prompt has {500 + number} tokens; the context holds 512."))
    refusals.add("x", "teacher", reply("HTTP 400:\n  Unknown parameter:  seed"))
    with pytest.raises(StageFailed) as caught:
        refusals.check()
    told = str(caught.value)
    assert "judge: The prompt has 500 tokens; the context holds 512. (5)" in told
    assert "teacher: HTTP 400: Unknown parameter: seed (1)" in told
    assert "args.max_model_len" in told
    assert "the same command asks these again" in told
    assert refusals.kinds()[0] == {
        "role": "judge",
        "message": "The prompt has 500 tokens; the context holds 512.",
        "count": 5,
    }
