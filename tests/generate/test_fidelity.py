"""The fidelity report: its statistics against other implementations, its error rate on halves, its eye for damage."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from eval import diversity
from eval.tasks import word_problems
from generate import fidelity, two_sample
from generate.comparisons import MIN_ROWS
from generate.fidelity import report
from generate.two_sample import Counts, Statistic, Tail, permutation_test
from scripts.study_fidelity import CASES, clopper_pearson, flags
from synthloop.config import load_config
from synthloop.records import Example
from synthloop.task import open_task
from tests.generate.rows import candidate, example
from tests.real_data import real_data

ROOT = Path(__file__).parents[2]
DAMAGES = [name for name, (_, _, expected) in CASES.items() if expected]
DOCUMENTS = ["a b a c", "b b d", "a", "e f a", "a a g", "h"]  # three real, three synthetic
SCIPY_NAMES = {"both": "two-sided", "upper": "greater", "lower": "less"}
CONFIG = word_problems.Config(prompt="{{ input }}", num_train=1000)
POOL = list(word_problems.load(CONFIG, "train"))


def observed(statistic: Statistic, n_real: int, n_synthetic: int) -> float:
    return float(statistic(two_sample.labellings(n_real, n_synthetic, 0, 0).astype(float))[0])


def counts() -> Counts:
    return Counts.of([one.split() for one in DOCUMENTS])


def columns(n_real: int = 12, n_synthetic: int = 9) -> tuple[Any, Any]:
    generator = np.random.default_rng(3)
    return generator.integers(0, 9, n_real).astype(float), generator.integers(2, 12, n_synthetic).astype(float)


def test_holm_known_answer() -> None:
    assert two_sample.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert two_sample.holm([0.5, 0.9]) == [1.0, 1.0]
    assert two_sample.holm([]) == []


def test_labellings_keep_the_sizes_and_start_with_the_observed_one() -> None:
    given = two_sample.labellings(3, 5, 50, 0)
    assert given.shape == (8, 51)
    assert given[:, 0].tolist() == [True] * 3 + [False] * 5
    assert set(given.sum(axis=0)) == {3}
    assert len({tuple(one) for one in given.T}) > 20


def test_cohens_d() -> None:
    real, synthetic = columns()
    pooled = math.sqrt((real.var(ddof=1) * 11 + synthetic.var(ddof=1) * 8) / 19)
    effect = observed(two_sample.cohens_d(np.concatenate([real, synthetic])), 12, 9)
    assert effect == pytest.approx((synthetic.mean() - real.mean()) / pooled)
    assert observed(two_sample.cohens_d(np.array([1.0, 1, 2, 2])), 2, 2) > 1e5


def test_cliffs_delta() -> None:
    real, synthetic = columns()
    signs = np.sign(synthetic[:, None] - real[None, :])
    effect = observed(two_sample.cliffs_delta(np.concatenate([real, synthetic])), 12, 9)
    assert effect == pytest.approx(signs.mean())


def test_cramers_v() -> None:
    labels = [*"aaabbc", *"abccccc"]
    table = [[3, 2, 1], [1, 1, 5]]
    effect = observed(two_sample.cramers_v(Counts.of(labels)), 6, 7)
    assert effect == pytest.approx(stats.contingency.association(table, method="cramer"))


def test_jensen_shannon() -> None:
    of_real, of_synthetic = [3, 3, 1, 1, 0, 0, 0, 0], [3, 0, 0, 0, 1, 1, 1, 1]
    effect = observed(two_sample.jensen_shannon(counts()), 3, 3)
    assert effect == pytest.approx(distance.jensenshannon(of_real, of_synthetic, base=2) ** 2)


def test_types_a_word_are_rarefied_to_the_smaller_side() -> None:
    given = two_sample.labellings(3, 3, 0, 0).astype(float)
    ratios = [float(one[0]) for one in two_sample.type_token_ratios(counts(), given)]
    words = [list("abacbbda"), list("efaaagh")]
    assert ratios == pytest.approx([diversity.distinct_share(one, 7) for one in words])


def test_coverage_of_rare_types_and_unknown_words() -> None:
    # Real: a 3, b 3, c 1, d 1. Synthetic: a 3, e, f, g, h.
    assert observed(two_sample.rare_coverage(counts(), 3), 3, 3) == pytest.approx(1 / 4)
    assert observed(two_sample.rare_coverage(counts(), 1), 3, 3) == 0
    assert observed(two_sample.unknown_share(counts()), 3, 3) == pytest.approx(4 / 7)


def test_energy_coefficient() -> None:
    real, synthetic = columns()
    points = np.concatenate([real, synthetic])[:, None]
    energy = stats.energy_distance(real, synthetic) ** 2
    effect = observed(two_sample.energy_coefficient(points), 12, 9)
    assert effect == pytest.approx(energy / (2 * distance.cdist(points[:12], points[12:]).mean()))


def test_correlations_are_compared_whatever_the_means_and_variances() -> None:
    generator = np.random.default_rng(0)
    real, synthetic = generator.normal(size=(30, 2)), generator.normal(size=(25, 2)) @ [[1, 0.8], [0, 0.6]]
    effects = []
    given = two_sample.labellings(30, 25, 500, 0)
    for other in (synthetic, synthetic * [10, 0.1] + [100, -5]):
        effects.append(permutation_test(two_sample.correlation_difference(real, other), given, "both"))
    expected = np.corrcoef(synthetic.T)[0, 1] - np.corrcoef(real.T)[0, 1]
    assert effects[0].effect == pytest.approx(expected)
    assert effects[1] == pytest.approx(effects[0])


@pytest.mark.parametrize("tail", ["both", "upper", "lower"])
def test_p_values_are_those_of_all_exchanges(tail: Tail) -> None:
    """Against the enumeration of the 2,002 ways to choose 9 of 14 rows."""
    statistic = two_sample.cohens_d(np.concatenate(columns(9, 5)))
    every = np.zeros((14, 2002), dtype=bool)
    for column, chosen in enumerate(itertools.combinations(range(14), 9)):  # the first is the observed one
        every[list(chosen), column] = True
    exact = permutation_test(statistic, every, tail)
    drawn = permutation_test(statistic, two_sample.labellings(9, 5, 20_000, 0), tail)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.01)
    assert drawn.expected == pytest.approx(0, abs=0.02)
    scipy = stats.permutation_test(
        columns(9, 5), lambda a, b: b.mean() - a.mean(), vectorized=False, alternative=SCIPY_NAMES[tail]
    )
    if tail != "both":  # scipy doubles the smaller tail instead
        assert exact.p_value == pytest.approx(scipy.pvalue)


def test_p_values_are_never_zero() -> None:
    values = np.arange(60.0)
    outcome = permutation_test(two_sample.cliffs_delta(values), two_sample.labellings(30, 30, 99, 0), "both")
    assert outcome.effect == 1
    assert outcome.p_value == 1 / 100


def test_halves_are_flagged_no_more_often_than_stated() -> None:
    """The script runs 200 of either case."""
    repetitions = 40
    cases = [(case, number) for case in ("halves", "structured halves") for number in range(repetitions // 2)]
    flagged = sum(any(flags(case, POOL, 60, number).values()) for case, number in cases)
    low, _ = clopper_pearson(flagged, repetitions)
    assert low <= 0.05, f"{flagged} of {repetitions} reports on halves of the same data have a flag"


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_flagged_by_the_comparison_one_expects(case: str) -> None:
    assert flags(case, POOL, 150, repetition=0)[CASES[case][2]]


def test_skewed_labels_are_flagged() -> None:
    rows = [example(i, answer="yes" if i % 2 else "no") for i in range(100)]
    skewed = [candidate(i, answer="yes" if i % 5 else "no") for i in range(100)]
    found = {one["name"]: one for one in report(rows, skewed, seed=0)["comparisons"]}["label shares"]
    assert found["flagged"]
    assert found["real"] == {"no": 0.5, "yes": 0.5}
    assert found["synthetic"] == {"no": 0.2, "yes": 0.8}
    assert found["effect"] == pytest.approx(stats.contingency.association([[50, 50], [20, 80]], method="cramer"))


def test_embeddings() -> None:
    generator = np.random.default_rng(0)
    real, near, far = (generator.normal(shift, 1, (80, 8)) for shift in (0, 0, 0.5))
    rows = POOL[:80], POOL[80:160]
    for points, flagged in ((near, False), (far, True)):
        found = report(*rows, seed=0, embeddings=(real, points))
        assert ("embeddings" in [one["name"] for one in found["comparisons"] if one["flagged"]]) == flagged
    with pytest.raises(AssertionError, match="one embedding a sample"):
        report(*rows, seed=0, embeddings=(real, far[1:]))


def test_what_is_not_tested_says_why() -> None:
    real = [example(i, answer=None, slice=None) for i in range(MIN_ROWS)]
    found = report(real, [candidate(i) for i in range(MIN_ROWS)], seed=0)
    reasons = {one["name"]: one["reason"] for one in found["not_tested"]}
    assert reasons["label shares"] == "0 real and 20 synthetic rows have it; 20 a side are needed"
    assert reasons["slice shares"] == reasons["answer: mean"] == reasons["label shares"]
    assert reasons["embeddings"] == "no embeddings were given"
    assert reasons["fields"] == "no answer and no completion is a JSON object with numbers"
    few = report(real, [candidate(i) for i in range(MIN_ROWS - 1)], seed=0)
    assert few["comparisons"] == []
    assert few["summary"] == "0 of 0 comparisons flagged at a family-wise error rate of 0.05"
    names = {one["name"] for one in (*found["comparisons"], *found["not_tested"])}
    assert {one["name"] for one in few["not_tested"]} == names


def test_fields_of_json_objects() -> None:
    def row(number: int, factor: int) -> Example:
        text = json.dumps({"price": number, "box": {"size": factor * number % 17}, "sold": True, "name": "x"})
        return example(number, completion=text, answer="1,234" if number % 2 else "twelve")

    found = report([row(i, 3) for i in range(40)], [row(i, 5) for i in range(40)], seed=0)
    tested = {one["name"]: one for one in found["comparisons"]}
    fields = {name for name in tested if name.startswith("field")}
    columns = {f"field {one}: {what}" for one in ("price", "box.size") for what in ("mean", "variance")}
    assert fields == columns | {"fields box.size, price: correlation"}
    assert tested["field price: mean"]["real"] == 19.5
    assert tested["field price: variance"]["real"] == pytest.approx(np.var(range(40), ddof=1))
    assert {"name": "answer: mean", "reason": "nothing varies on either side"} in found["not_tested"]


def test_report_is_json_and_the_same_for_the_same_seed() -> None:
    rows = POOL[:60], POOL[60:120]
    text = json.dumps(report(*rows, seed=1), allow_nan=False)
    assert json.dumps(report(*rows, seed=1)) == text
    assert json.dumps(report(*rows, seed=2)) != text


def test_many_rows_are_sampled_with_their_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "MAX_ROWS", 50)
    rows = [one.model_copy(update={"answer": str(i)}) for i, one in enumerate(POOL[:300])]
    numbers = np.arange(300.0)[:, None]
    found = report(rows[:200], rows[200:], seed=0, embeddings=(numbers[:200], numbers[200:]))
    assert found["rows"] == {"real": 200, "synthetic": 100}
    assert found["rows_compared"] == {"real": 50, "synthetic": 50}
    tested = {one["name"]: one for one in found["comparisons"]}
    assert tested["embeddings"]["n_real"] == tested["answer: mean"]["n_real"] == 50
    values = [fidelity._sampled(size, 0, side) for size, side in ((200, "real"), (100, "synthetic"))]
    assert tested["answer: mean"]["real"] == pytest.approx(np.mean(values[0]))
    energy = stats.energy_distance(values[0], np.array(values[1]) + 200) ** 2
    across = np.abs(np.subtract.outer(values[0], np.array(values[1]) + 200)).mean()
    assert tested["embeddings"]["effect"] == pytest.approx(energy / (2 * across))


texts = st.one_of(st.text(max_size=12), st.sampled_from(["", "a", "7", "1e999", "nan", '{"a": 1}', '{"a": NaN}', "{"]))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(texts, texts, st.none() | texts), min_size=2 * MIN_ROWS, max_size=60), st.integers(1, 40))
def test_any_text_gives_finite_numbers(rows: list[tuple[str, str, str | None]], n_real: int) -> None:
    samples = [example(i, input=a, completion=b, answer=c) for i, (a, b, c) in enumerate(rows)]
    found = json.loads(json.dumps(report(samples[:n_real], samples[n_real:], seed=0), allow_nan=False))
    for one in found["comparisons"]:
        assert 0 < one["p_value"] <= one["p_corrected"] <= 1
        assert one["flagged"] == (one["p_corrected"] < 0.05)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["gsm8k", "trec"])
def test_published_data(name: str) -> None:
    task = load_config(ROOT / "configs" / f"{name}.yaml", [f"task.path={real_data(name)}"]).task
    pool: Sequence[Example] = random.Random(0).sample(list(open_task(task.name, task.settings).load("train")), 1500)
    assert sum(any(flags("halves", pool, 60, one).values()) for one in range(3)) <= 1
    cases = ["truncated inputs", "skewed slices", "narrowed vocabulary"]
    for case in [*cases, "truncated completions"] if name == "gsm8k" else cases:
        assert flags(case, pool, 100, repetition=0)[CASES[case][2]], case
