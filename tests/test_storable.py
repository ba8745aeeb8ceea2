"""Text from outside is made storable, and nothing else of it is changed."""

from hypothesis import given
from hypothesis import strategies as st

from synthloop.records import Completion
from synthloop.storable import storable

any_text = st.text(st.characters(codec=None))


@given(any_text)
def test_what_comes_out_has_bytes_and_keeps_its_length(text: str) -> None:
    assert len(storable(text).encode("utf-8").decode("utf-8")) == len(text)


@given(st.text())
def test_text_that_has_bytes_is_kept(text: str) -> None:
    assert storable(text) == text


def test_a_reply_with_half_a_surrogate_pair_can_be_written() -> None:
    reply = Completion(
        request_id="r", text="cut \ud83d", finish_reason="stop", prompt_tokens=1, completion_tokens=1, error="\udc00"
    )
    assert (reply.text, reply.error) == ("cut \ufffd", "\ufffd")
    assert Completion.model_validate_json(reply.model_dump_json()) == reply
