"""The scorers: known answers, edges, and properties that hold for every text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring import SCORERS, choice, exact, final_number, json_equal, named_scorer, numeric, regex
from synthloop.errors import UserError


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So she pays 5 * 3 = 15 dollars.\n#### 15", "15"),
        ("#### 1,000", "1000"),
        ("#### $1,234.50", "1234.5"),
        ("####1000.00", "1000"),
        ("#### -3", "-3"),
        ("#### \u22123", "-3"),
        ("#### $-3", "-3"),
        ("#### -$3", "-3"),
        ("#### \\$18", "18"),
        ("#### **42**", "42"),
        ("#### 24 apples of 30", "24"),
        ("#### 10%", "10"),
        ("#### 5.", "5"),
        ("#### .5", "0.5"),
        ("#### 007", "7"),
        ("#### -0.0", "0"),
        ("#### 1/2", "0.5"),
        ("#### 1\n#### 2", "2"),
        ("The answer is 3,456.", "3456"),
        ("He has 3, then 4", "4"),
        ("5-3", "3"),
        ("x=-4", "-4"),
        ("(-4)", "-4"),
        ("about 48/2", "24"),
        ("3,4,5", None),
        ("所以一共是49个。", "49"),
        ("was 3, now Rs.500", "500"),
        ("was 3, now x/2", None),
        ("it is 7 or 3,5", None),
        ("#### none, so 7", "7"),
        ("9 #### none", "9"),
        ("", None),
        ("####", None),
        ("no number at all", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == number


def test_numeric_compares_by_value() -> None:
    assert all(numeric(one, "#### 1,000").correct for one in ("1000", "1,000", "1000.0", "$1,000"))
    assert not numeric("1000", "#### 100").correct
    assert numeric("3", "").model_dump() == {"value": 0.0, "correct": False, "parsed": None, "reason": "no number"}


@given(st.integers(-(10**12), 10**12))
def test_numeric_reads_what_it_writes(number: int) -> None:
    for written in (f"{number}", f"{number:,}", f"{number}.00", f"#### {number:,}.", f"= {number}"):
        assert final_number(written) == str(number)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6))
def test_canonical_numbers_are_fixed_points(number: Any) -> None:
    canonical = final_number(f"{number:f}")
    assert canonical is not None
    assert final_number(canonical) == canonical
    assert float(canonical) == float(number)


def test_exact() -> None:
    assert exact("New York", "  New \n York ").correct
    assert not exact("New York", "new york").correct
    assert exact("New York", "new york", ignore_case=True).correct
    assert exact("caf\u00e9", "cafe\u0301").correct
    assert not exact("", "").correct
    assert exact("a", " ").parsed is None


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("spam", "spam"),
        ("SPAM.", "spam"),
        ("Label: not spam", "not spam"),
        ("spam\nIt is not spam because ham", "spam"),
        ("spam or ham?", None),
        ("I think\nit is ham", "ham"),
        ("hamburger", None),
        ("A", "A"),
        ("a dog", None),
        ("", None),
        ("\n\nham", "ham"),
    ],
)
def test_choice_names_one_label(reply: str, label: str | None) -> None:
    score = choice(("spam", "not spam", "ham", "A"))("ham", reply)
    assert score.parsed == label
    assert score.correct == (label == "ham")


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).map(str.strip).filter(bool))
)
def test_choice_survives_any_label_and_reply(labels: list[str]) -> None:
    for label in labels:
        assert choice(tuple(labels))(label, " ".join(labels)).parsed in {*labels, None}


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        ('{"b": [1, 2], "a": 1}', True),
        ('Here:\n```json\n{"a": 1.0, "b": [1, 2]}\n```', True),
        ('{"a": 1, "b": [2, 1]}', False),
        ('{"a": true, "b": [1, 2]}', False),
        ('{"a": 1, "b": [1, 2], "c": null}', False),
        ('{"a": 1, "b": [1, 2]', False),
        ('{"a": NaN}', False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_equal(reply: str, correct: bool) -> None:
    assert json_equal('{"a": 1, "b": [1, 2]}', reply).correct == correct


def test_a_bare_json_value_must_be_the_whole_reply() -> None:
    assert json_equal("1", " 1.0 ").correct
    assert not json_equal("1", "1 2").correct
    assert not json_equal("true", "1").correct


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Compare A first.\nB fails on the date.\nANSWER: C", "C"),
        ("The answer is C. A, B and D are wrong.", "C"),
        ("**Answer:** (D)", "D"),
        ("C) because option A is not it", "C"),
        ("A careful look is needed, but I cannot tell.", None),
        ("Either A or B", None),
        ("<think>\nA is too small\n</think>\nB", "B"),
    ],
)
def test_choice_takes_the_last_label_that_is_marked(reply: str, label: str | None) -> None:
    assert choice(("A", "B", "C", "D"))("C", reply).parsed == label


OPTIONS = "A) x\nB) y\nC) z\nD) w"
CONCLUSIONS = (
    "The correct option is {}.",
    "Therefore, the correct choice is ({}).",
    "Hence {} is correct.",
    "({}) is the right one",
    "I choose {}.",
    "I'd go with {}.",
    "So I will pick option {}.",
    "My choice: {}",
    "So the answer must be {}.",
    "Therefore $\\boxed{{{}}}$.",
    "\\boxed{{\\text{{{}}}}}",
    "Final: {}",
    "**{}**",
    "So it has to be {}.",
    "Selected: {}",
)


@given(st.sampled_from(CONCLUSIONS), st.sampled_from("ABCD"), st.sampled_from(["", "{}. ", "- {}) ", "({}) ", "{}: "]))
def test_options_repeated_around_a_conclusion_are_none(conclusion: str, label: str, form: str) -> None:
    scorer, said = choice(("A", "B", "C", "D")), conclusion.format(label)
    options = "\n".join((form or "{}) ").format(one) + "text" for one in "ABCD")
    assert scorer(None, f"{options}\n\n{said}").parsed == label
    assert scorer(None, f"{said}\n\n{options}").parsed == label
    assert scorer(None, options).parsed is None


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        ("ABCD", "A) is wrong. B) is wrong. D) is right.\n\nFinal: D", "D"),
        ("ABCD", f"{OPTIONS}\n\nB) y", "B"),
        ("ABCD", f"{OPTIONS}\nIf A is correct, stop.\nSo it's C.", "C"),
        ("ABCD", f"{OPTIONS}\nB is not correct.\nThe answer is C.\nI would not choose D.", "C"),
        ("ABCD", "B) Paris\nLondon is A.", "B"),
        (("positive", "negative"), "Sentiment: positive\nReason: no negative words", "positive"),
        (("joy", "anger"), "Emotion: joy\nReason: no anger in it", "joy"),
        (("positive", "negative"), "Positive: the food.\nNegative: the wait.\nThe sentiment is positive.", "positive"),
    ],
)
def test_the_conclusion_counts_and_no_list_of_options(labels: tuple[str, ...], reply: str, label: str | None) -> None:
    assert choice(tuple(labels))(None, reply).parsed == label


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        (("yes", "no"), "I have no idea.", None),
        (("yes", "no"), "There is no doubt: yes", "yes"),
        (("yes", "no"), "No, it does not.", "no"),
        (("体育", "财经"), "我认为是体育。", "体育"),
        (("ดี", "แย่"), "คำตอบคือดี", "ดี"),
        (("अच्छ", "बुरा"), "यह अच्छाई है", None),
        (("1", "10"), "10", "10"),
        (("A", "B"), "정답은 B입니다", "B"),
        (("긍정", "부정"), "부정적", None),
        (("A", "B"), "\uff22", "B"),
        (("\uff21", "\uff22"), "B", "\uff22"),
        (("A", "B"), "Answer: \uff22\uff01\u56e0\u4e3aA", "B"),
    ],
)
def test_choice_knows_words_of_every_script(labels: tuple[str, ...], reply: str, label: str | None) -> None:
    assert choice(labels)(None, reply).parsed == label


@given(st.sampled_from("BCD"), st.lists(st.sampled_from(["B is too small.", "C and D?", "A look at D."]), max_size=4))
def test_a_marked_label_wins_over_all_that_stands_before_it(label: str, before: list[str]) -> None:
    reply = "\n".join([*before, f"Answer: {label}."])
    assert choice(("A", "B", "C", "D"))(None, reply).parsed == label


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('See [1]: {"a": 1}', '{"a": 1}'),
        ('{"a": 1}, after [2]', '{"a": 1}'),
        ('First {"a": 0}, no: {"a": 1}', '{"a": 1}'),
        ('{"items": [{"a": 1}, {"a": 2}', None),
        ('{"items": [{"a": 1}], oops} [3]', "[3]"),
        ('```json\n{"a": 1}\n```\nnot {"a": 2}', '{"a": 1}'),
        ("[see above] then [1, 2]", "[1, 2]"),
    ],
)
def test_the_json_value_is_the_last_one_at_top_level(reply: str, value: str | None) -> None:
    assert json_equal(None, reply).parsed == value


@given(st.dictionaries(st.text(), st.integers() | st.lists(st.text()), min_size=1), st.data())
def test_no_part_of_a_json_object_that_was_cut_off_is_an_answer(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps({"outer": value, "more": [value]})
    cut = data.draw(st.integers(1, len(text) - 1))
    assert json_equal(None, text[:cut]).parsed is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_equal_reads_what_json_writes(value: Any) -> None:
    assert json_equal(json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)).correct


def test_regex_takes_the_last_match_and_its_first_group() -> None:
    score = regex(r"^Answer: (\w+)$")
    assert score("B", "Answer: A\nno\nAnswer: B").correct
    assert score("B", "B").parsed is None
    assert regex(r"[A-D]")("D", "A to D").correct
    assert regex(r"answer (\d)|(\d) is it")("4", "4 is it").correct
    with pytest.raises(UserError, match="not a regular expression"):
        regex("(")


@given(st.text(), st.sampled_from(SCORERS))
def test_without_a_reference_nothing_is_correct(text: str, name: str) -> None:
    scorer = named_scorer(name, labels=("yes", "no"), pattern=r"(\w+)")
    score = scorer(None, text)
    assert not score.correct
    assert score.value == 0
    assert score.parsed == scorer("yes", text).parsed
    assert scorer("5", "").value == 0


def test_named_scorers_say_what_they_need() -> None:
    with pytest.raises(UserError, match="needs `labels`"):
        named_scorer("choice")
    with pytest.raises(UserError, match="needs `pattern`"):
        named_scorer("regex")
    with pytest.raises(UserError, match="Unknown scorer 'nummeric'"):
        named_scorer("nummeric")


def test_json_text_is_equal_however_its_accents_are_written() -> None:
    assert json_equal('{"a": "caf\u00e9"}', '{"a": "cafe\u0301"}').correct


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("4e-06", "7e-06", False),
        ("2/3", "1/3", False),
        ("09:15", "10:15", False),
        ("30 000", "40 000", False),
        ("16 cm^2", "49 cm^2", False),
        ("16 cm^2", "16", True),
        ("3√5", "2√5", False),
        ("4,5", "2,5", False),
        ("4e-06", "0.000004", True),
        ("2 1/4", "2.25", True),
    ],
)
def test_numbers_are_equal_just_where_their_values_are(one: str, other: str, equal: bool) -> None:
    assert numeric(one, other).correct == numeric(other, one).correct == equal


FORMS = st.sampled_from(["{}", "{:,}", "It is {:_}.", "{}.0", "#### {} kg", "{}e0", "${}", "{}/1"])


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), FORMS, FORMS)
def test_votes_are_counted_by_value(one: int, other: int, form: str, other_form: str) -> None:
    first, second = numeric(None, form.format(one)).parsed, numeric(None, other_form.format(other)).parsed
    assert first is not None
    assert (first == second) == (one == other)
    assert first == numeric(None, other_form.format(one)).parsed
