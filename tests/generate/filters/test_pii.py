"""Personal data found, masked alike in every field, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.curate import curate
from generate.curation import FilterContext
from generate.filters import pii
from synthloop.config import PluginRef
from synthloop.errors import UserError
from synthloop.records import Message
from tests.generate import rows
from tests.generate.runs import build_run

pytest.importorskip("presidio_analyzer")


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    return FilterContext(build_run(tmp_path / "run"), 1)


def found(text: str, **settings: Any) -> list[tuple[str, str]]:
    return [tuple(one) for one in pii.finder(pii.Config(**settings))(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Write to bob.smith@example.com.", "EMAIL_ADDRESS", "bob.smith@example.com"),
        ("anna@uni-köln.de schreibt", "EMAIL_ADDRESS", "anna@uni-köln.de"),
        ("Call 415-555-2671 - ask for Tom", "PHONE_NUMBER", "415-555-2671"),
        ("Ring 020 7946 0958 in London", "PHONE_NUMBER", "020 7946 0958"),
        ("Tel. +49 30 901820", "PHONE_NUMBER", "+49 30 901820"),
        ("Call 415.555.2671.", "PHONE_NUMBER", "415.555.2671"),
        ("Card 4111 1111 1111 1111 exp 12/27", "CREDIT_CARD", "4111 1111 1111 1111"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        ("My SSN is 536-90-4399.", "US_SSN", "536-90-4399"),
        ("from 192.168.17.45 port 22", "IP_ADDRESS", "192.168.17.45"),
        ("00:1B:44:11:3A:B7 is the MAC", "MAC_ADDRESS", "00:1B:44:11:3A:B7"),
        ("4111111111111111,12/27,123", "CREDIT_CARD", "4111111111111111"),
        ("7,4111111111111111\n8,x", "CREDIT_CARD", "4111111111111111"),
        ("ssn 219-09-9999,3", "US_SSN", "219-09-9999"),
        ("1,219-09-9999", "US_SSN", "219-09-9999"),
        ("Total 5,212-555-0142", "PHONE_NUMBER", "212-555-0142"),
        ("+1 212-555-0142,5", "PHONE_NUMBER", "+1 212-555-0142"),
    ],
)
def test_what_is_personal(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "60000-10800=49200",
        "There are 4000/2000 = 2 groups",
        "Tom has 3 apples and buys 4 more. #### 7",
        "360-270 = <<360-270=90>>90",
        "Card 4111 1111 1111 1112",  # the checksum is wrong
        "release 2.10.3 of 2024-05-06",
        "pi is 3.1415926535, e is 2.7182818284",
        "ln 2 = 0.6931471805, sqrt 2 = 1.4142135623",
        "a ratio of 0.2125551234 and 4155552671.5",
        "0.4111111111111111",
        "pi is 3.14159 26535 89793 and 3.141 592 653 589",
        "about 4155552671e-10",
    ],
)
def test_what_is_not(text: str) -> None:
    assert found(text) == []


def test_a_value_has_one_mask_in_all_fields_and_stands_nowhere_afterwards(ctx: FilterContext) -> None:
    text = "Mail ann@example.com or bob@example.com?"
    one = rows.candidate(
        input=text,
        messages=(Message(role="system", content="Help ann@example.com."), Message(role="user", content=text)),
        completion="Mail bob@example.com, not ann@example.com2. Tel. +49 30 901820",
        rejected="ann@example.com",
        answer="bob@example.com",
        votes=("bob@example.com", None),
        lineage={"requests": ["k"]},
    )
    (kept,), _ = curate([one, rows.candidate(1)][:1], [PluginRef(name="pii")], ctx)
    assert kept.input == "Mail [EMAIL_ADDRESS_1] or [EMAIL_ADDRESS_2]?"
    assert [turn["content"] for turn in kept.messages] == ["Help [EMAIL_ADDRESS_1].", kept.input]
    assert kept.completion.startswith("Mail [EMAIL_ADDRESS_2], not ")
    assert kept.completion.endswith("Tel. [PHONE_NUMBER_1]")
    assert (kept.rejected, kept.answer, kept.votes) == (
        "[EMAIL_ADDRESS_1]",
        "[EMAIL_ADDRESS_2]",
        ("[EMAIL_ADDRESS_2]", None),
    )
    assert kept.lineage["masked"]["pii"]["PHONE_NUMBER"] == 1
    assert kept.lineage["requests"] == ["k"]
    written = json.dumps(kept.model_dump())
    assert "bob@" not in written
    assert "901820" not in written


def test_what_has_nothing_personal_is_left_as_it_is(ctx: FilterContext) -> None:
    (decision,) = pii.check(pii.Config(), [rows.candidate()], ctx)
    assert decision.keep
    assert decision.changes == {}


def test_drop_refuses_and_counts_kinds_without_repeating_the_value(
    ctx: FilterContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "synthloop")
    batch = [rows.candidate(input="a@example.com b@example.com 192.168.17.45"), rows.candidate(1)]
    refused, kept = pii.check(pii.Config(action="drop"), batch, ctx)
    assert kept.keep
    assert not refused.keep
    assert refused.reason == "EMAIL_ADDRESS: 2 EMAIL_ADDRESS, 1 IP_ADDRESS"
    assert refused.score == 3
    assert "pii: refused for 2 EMAIL_ADDRESS, 1 IP_ADDRESS" in caplog.text


def test_entities_are_those_asked_for_and_known() -> None:
    assert found("a@example.com on 192.168.17.45", entities=("IP_ADDRESS",)) == [("IP_ADDRESS", "192.168.17.45")]
    assert found("UK number AB123456C", entities=("UK_NINO",)) == [("UK_NINO", "AB123456C")]
    with pytest.raises(UserError, match="no pattern for 'PHONE_NUMBERS'. Did you mean 'PHONE_NUMBER'?"):
        found("", entities=("PHONE_NUMBERS",))


def test_no_network_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert found("bob@a-domain-never-seen-before.example")


@given(
    st.integers(0, 99),
    st.text("0123456789", min_size=1, max_size=16),
    st.sampled_from(["{}", "x = {} m", "({})", "[{}, 1]", "{},2"]),
)
def test_no_part_of_a_decimal_is_personal(whole: int, decimals: str, frame: str) -> None:
    assert found(frame.format(f"{whole}.{decimals}")) == []


PERSONAL = ("4111111111111111", "219-09-9999", "192.168.1.10", "212-555-0142", "2125550142", "192.168.1.11")


@given(st.lists(st.sampled_from(PERSONAL) | st.integers(0, 99).map(str), max_size=5), st.sampled_from(["{}", "[{}]"]))
def test_a_comma_between_values_hides_none(values: list[str], frame: str) -> None:
    personal = [value for value in values if value in PERSONAL]
    assert [value.strip("[") for _, value in found(frame.format(",".join(values)))] == personal


def test_a_value_between_letters_of_a_script_without_spaces_is_masked(ctx: FilterContext) -> None:
    one = rows.candidate(input="电话415-555-2671请打", completion="打415-555-2671吧。 #### 5")
    (kept,), _ = curate([one], [PluginRef(name="pii")], ctx)
    assert (kept.input, kept.completion) == ("电话[PHONE_NUMBER_1]请打", "打[PHONE_NUMBER_1]吧。 #### 5")
