"""The filter that runs code: known verdicts in the real sandbox, and the gold code of MBPP."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from generate import sandbox
from generate.curation import FilterContext
from generate.filters import execute
from synthloop.errors import UserError
from synthloop.records import Candidate, Decision
from synthloop.store import write_rows
from synthloop.unit_tests import fenced
from tests.generate import rows
from tests.generate.runs import build_run
from tests.generate.sandboxed import skip_unless_confined
from tests.real_data import real_data

TESTS = ["assert double(2) == 4", "assert double(3) == 6"]
RIGHT = fenced("def double(x):\n    return 2 * x")


@pytest.fixture
def ctx(tmp_path: Path) -> FilterContext:
    """A run of one seed, whose example carries tests."""
    skip_unless_confined()
    run = build_run(tmp_path / "run", model="quickstart/student")
    seed = rows.seed(0, example=rows.example(0, meta={"tests": TESTS[:1]}))
    write_rows(run.round_dir(1) / "seeds.jsonl", [seed])
    return FilterContext(run, 1)


def decide(
    ctx: FilterContext, completion: str, *, tests: Any = TESTS, settings: Any = None, **changes: Any
) -> Decision:
    one = rows.candidate(lineage={"tests": tests}, completion=completion, **changes)
    (decision,) = execute.check(execute.Config(**(settings or {})), [one], ctx)
    return decision


@pytest.mark.parametrize(
    ("completion", "reason", "score"),
    [
        (RIGHT, None, 1.0),
        (f"Twice:\n{RIGHT}\nDone.", None, 1.0),
        (fenced("def double(x):\n    return x ** 2"), "failed: 1 of 2 tests pass. assert double(3) == 6\ndouble", 0.5),
        (fenced("def double(x): pass\nraise SystemExit"), "failed: 0 of 2 tests pass. SystemExit", 0.0),
        (fenced("while True: pass"), "timeout: The code did not end", 0.0),
        ("#### 5", "no code: ", None),
    ],
)
def test_verdicts(ctx: FilterContext, completion: str, reason: str | None, score: float | None) -> None:
    decision = decide(ctx, completion, settings={"limits": {"wall_s": 4, "cpu_s": 1}})
    assert (decision.keep, decision.score) == (reason is None, score)
    assert (decision.reason or "").startswith(reason or "")
    assert not decision.changes


def test_where_tests_come_from(ctx: FilterContext) -> None:
    """The candidate's own, else those of the real problem it solves, else the template's."""
    template = {"template": "assert double({{ candidate.answer }}) == 10"}
    assert decide(ctx, RIGHT, tests=["assert double(1) == 3"], settings=template).reason
    assert decide(ctx, RIGHT, tests=None).reason == (
        "no tests: neither the candidate nor its seed has any, and no template is set"
    )
    real = rows.example(0).input
    assert decide(ctx, RIGHT, tests=None, input=real).keep
    assert not decide(ctx, fenced("def double(x): return x"), tests=None, input=real, settings=template).keep
    assert decide(ctx, RIGHT, tests=None, settings=template).keep
    assert not decide(ctx, RIGHT, tests=None, settings=template, answer="6").keep


def test_many_are_decided_in_their_order(ctx: FilterContext) -> None:
    codes = [f"def double(x):\n    return {n} * x" for n in (1, 2, 3, 2, 2, 1)]
    batch = [rows.candidate(n, completion=fenced(code), lineage={"tests": TESTS}) for n, code in enumerate(codes)]
    decisions = execute.check(execute.Config(), batch, ctx)
    assert [one.keep for one in decisions] == [False, True, False, True, True, False]
    assert execute.check(execute.Config(), batch, ctx) == decisions


def test_a_bad_template_is_told(ctx: FilterContext) -> None:
    with pytest.raises(ValidationError, match="no Jinja template"):
        execute.Config(template="{{ candidate")
    with pytest.raises(UserError, match=r"execute\.template: .*It is given: candidate"):
        decide(ctx, RIGHT, tests=None, settings={"template": "{{ candidat.answer }}"})


def test_it_refuses_to_run_where_code_cannot_be_confined(ctx: FilterContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UserError("Model-written code cannot be confined")

    monkeypatch.setattr(sandbox, "require", refuse)
    assert execute.check(execute.Config(), [], ctx) == []
    with pytest.raises(UserError, match="cannot be confined"):
        decide(ctx, "#### 5")


@pytest.mark.real_data
@pytest.mark.slow
def test_the_gold_code_of_mbpp_passes_and_an_emptied_one_fails(ctx: FilterContext) -> None:
    def candidate(number: int, row: dict[str, Any], code: str) -> Candidate:
        tests = [f"{row['test_setup_code']}\n{test}" for test in row["test_list"]]
        return rows.candidate(number, completion=fenced(code), lineage={"tests": tests})

    lines = (real_data("mbpp") / "mbpp.jsonl").read_text(encoding="utf-8").splitlines()[:100]
    problems = [json.loads(line) for line in lines]
    gold = [candidate(n, row, row["code"]) for n, row in enumerate(problems)]
    decisions = execute.check(execute.Config(), gold, ctx)
    assert [one.reason for one in decisions if not one.keep] == []

    emptied = [candidate(n, row, "\n".join(stubs(row["code"]))) for n, row in enumerate(problems)]
    kinds = Counter((one.reason or "kept").partition(":")[0] for one in execute.check(execute.Config(), emptied, ctx))
    assert kinds == {"failed": 100}


def stubs(code: str) -> list[str]:
    """The functions of `code` with nothing in them."""
    heads = [line.strip() for line in code.splitlines() if line.startswith("def ")]
    return [f"{head.partition(':')[0]}: return None" for head in heads]
