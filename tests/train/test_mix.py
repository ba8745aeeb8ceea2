"""Mixing: all real rows, capped synthetic, the same rows in the same order every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.config import Config
from synthloop.errors import UserError
from synthloop.mixing import Mix
from synthloop.records import Candidate, Example, Message, Row
from synthloop.store import Run, read_rows, write_json, write_rows
from train.mix import describe, mix_round, mix_rows, select

PROMPT = (Message(role="user", content="Tom has 3 apples and buys 4 more. How many?"),)


def row(name: str, source: str = "real", round: int = 0, num_tokens: int = 10) -> Row:
    return Row.model_validate(
        {
            "id": name,
            "source": source,
            "messages": PROMPT,
            "completion": "7",
            "round": round,
            "depth": int(source != "real"),
            "num_tokens": num_tokens,
        }
    )


def rows_of(sizes: list[int]) -> list[Row]:
    return [row(f"real-{index}", num_tokens=size) for index, size in enumerate(sizes)]


def candidates_of(sizes: list[tuple[int, int]]) -> list[Row]:
    return [row(f"syn-{index}", "synthetic", round, size) for index, (round, size) in enumerate(sizes)]


SIZES = st.integers(1, 200)
REAL = st.lists(SIZES, min_size=1, max_size=30).map(rows_of)
SYNTHETIC = st.lists(st.tuples(st.integers(1, 4), SIZES), max_size=60).map(candidates_of)
POLICY = st.builds(
    Mix,
    max_synthetic_ratio=st.floats(0, 3),
    unit=st.sampled_from(["tokens", "rows"]),
    num_rows=st.none() | st.integers(1, 120),
)


@given(REAL, SYNTHETIC, POLICY, st.integers(0, 9))
def test_every_mix_keeps_its_promises(real: list[Row], synthetic: list[Row], policy: Mix, seed: int) -> None:
    mixed = mix_rows(real, synthetic, policy, seed, 2)
    facts = describe(mixed, real, synthetic, policy)

    assert {one.id for one in real} <= {one.id for one in mixed}
    assert len({one.id for one in mixed}) == len(mixed)
    assert facts["achieved"]["synthetic_per_real"] <= policy.max_synthetic_ratio
    assert mixed == mix_rows(real[::-1], synthetic[::-1], policy, seed, 2)
    assert facts["synthetic_rows"] + facts["dropped"]["over_cap"] == len(synthetic)
    assert facts["real_tokens"] == sum(one.num_tokens for one in mixed if one.source == "real")
    assert sum(facts["depth_shares"].values()) == pytest.approx(1)
    if policy.num_rows is not None:
        assert len(mixed) == max(policy.num_rows, len(real) + facts["synthetic_rows"])


@given(SYNTHETIC, st.integers(0, 2000), st.integers(0, 9))
def test_a_larger_budget_drops_nothing_that_fits_row_by_row(synthetic: list[Row], budget: int, seed: int) -> None:
    """Counted in rows, what a small budget keeps a larger one keeps too."""
    small = {one.id for one in select(synthetic, budget % 20, "rows", seed)}
    large = {one.id for one in select(synthetic, budget % 20 + 5, "rows", seed)}
    assert small <= large


def test_rounds_share_the_cap_equally_and_leave_their_rest_to_the_others() -> None:
    real = rows_of([100])
    synthetic = candidates_of([(1, 10)] * 20 + [(2, 10)] * 20 + [(3, 10)] * 2)
    kept = select(synthetic, 100, "tokens", seed=0)
    assert Counter(one.round for one in kept) == {1: 4, 2: 4, 3: 2}
    mixed = mix_rows(real, synthetic, Mix(), 0, 3)
    facts = describe(mixed, real, synthetic, Mix())
    assert facts["achieved"] == {"synthetic_per_real": 1.0}
    assert facts["real_fraction"] == 0.5
    assert facts["by_round"]["3"] == {"available": 2, "kept": 2, "tokens": 20}
    assert facts["dropped"] == {"over_cap": 32}


def test_a_huge_row_does_not_block_its_round() -> None:
    kept = select(candidates_of([(1, 10_000), (1, 10), (1, 10)]), 25, "tokens", seed=0)
    assert sorted(one.num_tokens for one in kept) == [10, 10]


def test_real_rows_repeat_up_to_num_rows() -> None:
    mixed = mix_rows(rows_of([5] * 4), [], Mix(num_rows=10), seed=0, round=1)
    copies = Counter(one.id.partition("#")[0] for one in mixed)
    assert sorted(copies.values()) == [2, 2, 3, 3]


def make_run(root: Path, model: Path, mix: dict[str, object], curated: dict[int, int] | None = None) -> Run:
    """A run with four real rows and `curated[round]` candidates."""
    settings = {
        "name": "mixing",
        "student": {"model": str(model)},
        "task": {"name": "word_problems"},
        "generate": {"recipes": [{"name": "repair"}]},
        "mix": mix,
    }
    write_json(root / "config.resolved.json", Config.model_validate(settings).model_dump(mode="json"))
    write_rows(
        root / "data" / "train.jsonl",
        [Example(id=f"real-{n}", input="x", messages=PROMPT, completion=f"It is {n}.", answer="7") for n in range(4)],
    )
    run = Run(root)
    for round, count in (curated or {}).items():
        candidates = [
            Candidate(
                id=f"r{round}-{n}",
                round=round,
                recipe="repair",
                seed_id="s",
                input="x",
                messages=PROMPT,
                completion=f"It is {n}.",
                answer=str(n),
            )
            for n in range(count)
        ]
        write_rows(run.round_dir(round) / "curated.jsonl", candidates)
    return run


def test_the_stage_counts_tokens_as_the_student_sees_them(tmp_path: Path, tiny_model: Path) -> None:
    from synthloop.chat import completion_ids, load_tokenizer, prompt_ids

    run = make_run(tmp_path, tiny_model, {"max_synthetic_ratio": 0.5}, {1: 5, 2: 5})
    mix_round(run, 2)
    rows = read_rows(run.round_dir(2) / "train.jsonl", Row)
    facts = json.loads((run.round_dir(2) / "mix.json").read_text())
    tokenizer = load_tokenizer(str(tiny_model))
    sizes = [
        len(prompt_ids(tokenizer, one.messages)) + len(completion_ids(tokenizer, one.messages, one.completion))
        for one in rows
    ]
    assert [one.num_tokens for one in rows] == sizes
    assert (facts["real_rows"], facts["synthetic_rows"]) == (4, 2)
    assert facts["asked"] == {"policy": "capped", "max_synthetic_ratio": 0.5, "unit": "tokens", "num_rows": None}
    assert {one.round for one in rows} == {0, 1, 2}
    assert run.stage(2, "mix").record()["rows"] == 6


def test_no_synthetic_row_is_a_counted_warning(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path, tiny_model, {}, {1: 0})
    mix_round(run, 1)
    assert len(run.stage(1, "mix").record()["warnings"]) == 1
    assert "trains on real rows alone" in caplog.text


def test_a_missing_round_is_the_users_error(tmp_path: Path, tiny_model: Path) -> None:
    run = make_run(tmp_path, tiny_model, {}, {2: 1})
    with pytest.raises(UserError, match=r"round-001/curated\.jsonl: no such file"):
        mix_round(run, 2)
