"""Diversity at a fixed budget: closed forms against brute force, and what must not change it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import diversity
from eval.diversity import (
    MEASURES,
    Sample,
    distinct_share,
    profile,
    rare_types,
    reference,
    sample,
    unigram_entropy,
    words,
)

items = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def entropy(sample: tuple[str, ...]) -> float:
    return -sum(n / len(sample) * math.log(n / len(sample)) for n in Counter(sample).values())


@given(items, st.integers(1, 9))
def test_both_are_the_mean_over_all_subsamples(pool: list[str], budget: int) -> None:
    size = min(budget, len(pool))
    samples = list(itertools.combinations(pool, size))
    assert unigram_entropy(pool, budget) == pytest.approx(sum(map(entropy, samples)) / len(samples), abs=1e-9)
    distinct = sum(len(set(sample)) / size for sample in samples) / len(samples)
    assert distinct_share(pool, budget) == pytest.approx(distinct)


def test_writing_more_of_the_same_is_not_more_varied() -> None:
    once, often = list("abcdefgh"), list("abcdefgh") * 50
    assert distinct_share(often, 8) < distinct_share(once, 8) == 1.0  # type: ignore[operator]
    assert unigram_entropy(once, 8) == pytest.approx(math.log(8))
    assert unigram_entropy(["a"] * 100, 20) == pytest.approx(0)


def test_words_and_pairs_stay_within_a_text() -> None:
    assert words("It costs $5.") == ["It", "costs", "$", "5", "."]
    assert list(sample(["a b c"], 3).pairs()) == [("a", "b"), ("b", "c")]
    assert unigram_entropy([], 10) is None
    assert distinct_share([], 10) is None


REAL = ["the cat sat", "the dog sat", "the owl slept"] * 4


def test_rare_types_are_the_least_frequent_that_make_up_a_tenth() -> None:
    assert rare_types(Counter("a" * 90 + "bbbb" + "cccc" + "de")) == {"b", "c", "d", "e"}
    assert rare_types(Counter("a" * 90 + "bbbbbb" + "cccccc" + "de")) == {"d", "e"}, "all of a frequency, or none"
    assert rare_types(Counter("aaabb")) == {"b"}, "the least frequent ones at the least"
    assert rare_types(Counter()) == frozenset()


def test_real_text_is_as_far_from_itself_as_nothing() -> None:
    real = reference(REAL)
    found = profile(sample(REAL, 36), real)
    assert found["js_to_real"] == pytest.approx(0, abs=1e-12)
    assert found["rare_type_coverage"] == pytest.approx(1)
    assert profile(sample(["x y", "z"], 36), real)["js_to_real"] == pytest.approx(1)
    assert profile(sample(["x y", "z"], 36), real)["rare_type_coverage"] == 0


def test_jensen_shannon_known_answer() -> None:
    """p = (1, 0), q = (1/2, 1/2): 1/2 log2(4/3) + 1/4 log2(2/3) + 1/4 bits, of words; there are no pairs."""
    expected = 0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25
    assert diversity.js_to_real(sample(["a", "a"], 9), reference(["a", "b"])) == pytest.approx(expected)


def test_coverage_is_the_mean_over_all_subsamples() -> None:
    real = reference(["a a a a a a a a b c"])  # b and c are rare
    expected = {
        tuple(text): sum(len(set(part) & {"b", "c"}) for part in itertools.combinations(text, 3)) / 10
        for text in ("aaabc", "aaabb")
    }
    real_3 = 2 * 3 / 10  # of three words of the real ten, one of either rare word
    for text, met in expected.items():
        assert diversity.rare_type_coverage(sample([" ".join(text)], 3), real) == pytest.approx(met / real_3)


def test_vendi_counts_texts_that_share_nothing() -> None:
    real = reference(REAL)
    assert diversity.vendi(sample(["a b", "c d", "e f"], 9), real) == pytest.approx(3)
    assert diversity.vendi(sample(["a b"] * 5, 9), real) == pytest.approx(1)
    assert diversity.vendi(sample(["a b", "a b", "c d", "c d"], 9), real) == pytest.approx(2)
    # Eigenvalues of [[1, c], [c, 1]] / 2 with c = 1/2.
    entropy_of_two = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert diversity.vendi(sample(["a b", "a c"], 9), real) == pytest.approx(math.exp(entropy_of_two))


def test_repetition_compresses_better() -> None:
    real = reference(REAL)
    varied = [f"{n} {n * n} {n**3}" for n in range(60)]
    same = ["12 144 1728"] * 60
    ratio = diversity.compression_ratio
    assert ratio(sample(same, 180), real) > 2 * ratio(sample(varied, 180), real)  # type: ignore[operator]
    assert ratio(sample(same * 9, 180), real) == ratio(sample(same, 180), real), "the budget is a budget"


def test_nothing_written_is_measured_as_nothing() -> None:
    assert set(profile(sample([], 10), reference(REAL)).values()) <= {None, 0}
    assert profile(sample(["", ""], 10), reference(REAL))["vendi"] == pytest.approx(1)


word_lists = st.lists(st.text("abcd", min_size=1, max_size=2), min_size=1, max_size=30)


@settings(max_examples=40)
@given(st.lists(word_lists, min_size=1, max_size=9), st.integers(1, 40), st.integers(1, 6), st.floats(0, 1))
def test_a_budget_is_held_to_the_word(texts: list[list[str]], budget: int, words_per_text: int, place: float) -> None:
    seen = Sample(texts, budget, words_per_text)
    cut = seen.cut(place)
    assert cut.num_words == min(budget, seen.own.num_words)
    if all(len(text) >= words_per_text for text in texts):
        assert all(len(text) >= words_per_text for text in seen.own.texts)
    if seen.is_reached and min(map(len, texts)) >= words_per_text and budget % words_per_text == 0:
        assert {len(text) for text in cut.texts} == {words_per_text}


@settings(max_examples=40)
@given(st.lists(word_lists, min_size=2, max_size=9), st.integers(1, 5))
def test_as_many_texts_of_each_kind_measure_the_same(texts: list[list[str]], times: int) -> None:
    """Twice as many kept rows of the same variety are as varied, exactly."""
    budget, real = 4 * len(texts), reference(["a b c", "b a d"])
    more = [text for text in texts for _ in range(times)]
    once, often = (Sample(many, budget) for many in (texts, more))
    if once.is_reached:
        assert profile(once, real) == profile(often, real)


@given(st.lists(word_lists, min_size=2, max_size=9), st.integers(1, 9))
def test_a_fixed_opening_and_closing_is_no_loss_of_variety(texts: list[list[str]], times: int) -> None:
    """Of texts that are long beside it, and that begin and end each in a way of its own."""
    texts = [[f"<{n}", *text * 40, f"{n}>"] for n, text in enumerate(texts)]
    seen = Sample(texts, 4 * len(texts))
    framed = replace(seen, texts=[["x"] * times + text + ["y"] * times for text in texts])
    assert framed.own.texts == seen.own.texts == texts
    for place in diversity.PLACES:
        assert not {"x", "y"} & set(framed.cut(place).words())


def written(generator: Random, count: int, length: int) -> list[list[str]]:
    """Texts of one source: each has a topic of its own, whatever its length."""
    topics = [[f"{generator.randrange(90)}" for _ in range(9)] for _ in range(count)]
    common = ["the", "a", "is", "of", ".", ","]
    return [[generator.choice(generator.choice((topic, common))) for _ in range(length)] for topic in topics]


@pytest.mark.parametrize("name", MEASURES)
def test_longer_and_more_texts_of_one_source_are_as_varied(name: str) -> None:
    """Means of 20 samples of each length and number differ by chance, and by a default margin (0.005) a round at the
    most where texts grow by a fifth a round."""
    real = reference(" ".join(text) for text in written(Random(0), 60, 30))

    def values(count: int, length: int) -> Sequence[float]:
        generator = Random(count * length)
        seen = [MEASURES[name](Sample(written(generator, count, length), 160), real) for _ in range(20)]
        return [one for one in seen if one is not None]

    first = values(40, 8)
    for count, length in ((40, 12), (40, 40), (100, 8)):
        other = values(count, length)
        error = math.hypot(stdev(first), stdev(other)) / math.sqrt(20)
        margins = 0.005 * fmean(first) * math.log(length / 8, 1.2)
        assert abs(fmean(other) - fmean(first)) < 4 * error + margins, (count, length)


@pytest.mark.parametrize(
    ("laid_out", "plain"),
    [
        ("# Total\n\n- **Tom** has 3 apples.\n- *Ann* has `4`.", "Total Tom has 3 apples. Ann has 4."),
        ("1. add\n2) double it\n10. done", "add double it done"),
        ("Step 1: add\n**Step 2:** double it", "add double it"),
        ("| a | b |\n|---|:--|\n| 1 | 2 |", "a b 1 2"),
        ("> quoted\n\n---\n\n```python\nx = 2\n```", "quoted x = 2"),
        ("Schritt 3. teilen\n• fertig", "teilen fertig"),
        ("第1步：加三", "加三"),
    ],
)
def test_layout_is_no_word(laid_out: str, plain: str) -> None:
    assert words(laid_out) == words(plain)


@pytest.mark.parametrize(
    "text", ["-5 + 3 = -2", "3.5 * 2", "x**2", "12.", "a_b", "2 < 3 > 1", "#### 42", "-" * 9999 + "x"]
)
def test_what_is_said_stays(text: str) -> None:
    assert "".join(words(text)) == text.replace(" ", "").replace("####", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他有3个苹果。", ["他", "有", "3", "个", "苹", "果", "。"]),
        ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 – “naïve”", ["cafe\u0301", "–", "“", "naïve", "”"]),
    ],
)
def test_words_of_other_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_budget_that_is_not_there_is_told() -> None:
    assert sample(["a b c d"] * 8, 32).is_reached
    assert not sample(["a b c"] * 8, 32).is_reached
    assert not sample(["a b c d e f g h"] * 4, 32).is_reached, "as many words, of fewer texts"
    assert sample(["yes", "no"] * 4, 8, words_per_text=1).is_reached
