"""What a conversation asks and ends with: seeds, committee, lineage, depth, votes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from generate.context import Context, Desk, Outcome, Reject, Reply
from generate.prompts import Prompts
from generate.recipes import repair
from generate.roles import Engines, Member, Roles, refuse_depth
from synthloop import plugins
from synthloop.errors import UserError
from synthloop.records import Candidate, Completion, Seed
from synthloop.store import Run, write_json
from synthloop.task import open_task
from tests.generate import rows
from tests.generate.runs import build_run


def open_context(run: Run, seed: Seed | None = None, round: int = 1, **config: Any) -> Context:
    desk = Desk(
        run.config.seed,
        round,
        open_task("word_problems", {}),
        Roles(run, round),
        Prompts(),
        run.config.generate.max_depth,
    )
    return Context(desk, seed or rows.seed(), repair.Config(**config))


def reply(text: str, finish_reason: Any = "stop") -> Reply:
    completion = Completion(
        request_id="x", text=text, finish_reason=finish_reason, prompt_tokens=1, completion_tokens=1
    )
    return Reply(completion)


def converse(ctx: Context, problem: Reply, solutions: list[Reply]) -> Outcome:
    """Play the engine to `repair`, and its outcome."""
    talk = repair.run(ctx.seed, ctx)
    next(talk)
    outcome: Outcome
    try:
        talk.send(problem)
        talk.send(solutions)
    except StopIteration as end:
        outcome = end.value
    return outcome


def accept_round_1(run: Run, max_depth: int) -> None:
    adapter = run.round_dir(1) / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 4}))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    write_json(run.round_dir(1) / "mix.json", {"max_depth": max_depth})
    write_json(run.round_dir(1) / "round.json", {"round": 1, "accepted": True})
    write_json(run.stage(1, "decide").record_path, {})


def test_requests_have_seeds_of_their_own_that_repeat(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")

    def seeds(ctx: Context) -> list[int]:
        return [ctx.ask("teacher", "solve.jinja", prompt="p", sample=i).request.sampling["seed"] for i in range(4)]

    assert len(set(seeds(open_context(run)))) == 4
    assert seeds(open_context(run)) == seeds(open_context(run))
    assert not set(seeds(open_context(run))) & set(seeds(open_context(run, round=2)))
    assert not set(seeds(open_context(run))) & set(seeds(open_context(run, rows.seed(1))))


def test_sampling_is_merged_from_role_to_ask(tmp_path: Path) -> None:
    teacher = {"engine": "tests.generate.scripted", "model": "a", "sampling": {"temperature": 0.7, "top_p": 0.9}}
    ctx = open_context(build_run(tmp_path / "run", roles={"teacher": teacher}))
    sampling = ctx.ask("teacher", "solve.jinja", prompt="p", sampling={"top_p": 0.5, "max_tokens": 9}).request.sampling
    assert {**sampling, "seed": None} == {"temperature": 0.7, "top_p": 0.5, "max_tokens": 9, "seed": None}


def test_a_greedy_request_has_no_seed_and_no_second_sample(tmp_path: Path) -> None:
    ctx = open_context(build_run(tmp_path / "run"))
    greedy = {"temperature": 0.0}
    assert ctx.ask("teacher", "solve.jinja", prompt="p", sampling=greedy).request.sampling == greedy
    with pytest.raises(UserError, match=r"roles.teacher is greedy"):
        ctx.ask("teacher", "solve.jinja", prompt="p", sampling=greedy, sample=1)


def test_a_committee_shares_the_work(tmp_path: Path) -> None:
    members = [{"engine": "tests.generate.scripted", "model": model} for model in "abc"]
    run = build_run(tmp_path / "run")
    run = build_run(tmp_path / "committee", roles={"teacher": members})
    ctx = open_context(run)
    asked = {ctx.ask("teacher", "solve.jinja", prompt="p", sample=i).model for i in range(30)}
    assert asked == {"a", "b", "c"}
    assert [ctx.ask("teacher", "solve.jinja", prompt="p", member=i).model for i in range(3)] == ["a", "b", "c"]


def test_an_unknown_role_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"roles.teachr is not in the config.*Did you mean 'teacher'"):
        open_context(build_run(tmp_path / "run")).ask("teachr", "solve.jinja", prompt="p")


def test_the_candidate_is_the_first_solution_with_the_majority_answer(tmp_path: Path) -> None:
    ctx = open_context(build_run(tmp_path / "run"))
    problem = reply("  How many pens? ")
    outcome = converse(ctx, problem, [reply("a #### 4"), reply("b #### 5"), reply("c"), reply("d #### 5")])
    assert isinstance(outcome, Candidate)
    assert (outcome.id, outcome.input, outcome.completion) == ("r001-repair-00000", "How many pens?", "b #### 5")
    assert (outcome.answer, outcome.votes) == ("5", ("4", "5", None, "5"))
    assert outcome.messages == ({"role": "user", "content": "How many pens?"},)
    assert outcome.lineage["source_ids"] == ["real-0", "real-100", "real-101"]
    assert len(outcome.lineage["requests"]) == 5
    assert outcome.lineage["roles"] == ["teacher"]
    assert outcome.lineage["prompts"] == ["repair.jinja", "solve.jinja"]


@pytest.mark.parametrize(
    ("problem", "solution", "reason"),
    [
        (reply("How many", "length"), reply("#### 5"), "truncated"),
        (reply("  "), reply("#### 5"), "empty"),
        (reply("How many?"), reply("#### 5", "length"), "no solution"),
        (reply("How many?"), reply("no idea"), "no solution"),
    ],
)
def test_what_cannot_become_a_sample_is_refused(tmp_path: Path, problem: Reply, solution: Reply, reason: str) -> None:
    outcome = converse(open_context(build_run(tmp_path / "run")), problem, [solution] * 4)
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith(reason)


def test_where_the_slice_is_the_label_the_sample_has_its_own(tmp_path: Path) -> None:
    seed = rows.seed(example=rows.example(answer="4", slice="4"))
    outcome = converse(open_context(build_run(tmp_path / "run"), seed), reply("x"), [reply("#### 5")] * 4)
    assert isinstance(outcome, Candidate)
    assert outcome.slice == "5"


def self_taught(root: Path, **generate: Any) -> Run:
    student = {"engine": "tests.generate.scripted", "model": "a"}
    teacher = {"engine": "tests.generate.scripted", "model": "student"}
    return build_run(root, student=student, roles={"teacher": teacher}, generate=generate)


def test_the_student_as_teacher_carries_its_adapter_and_its_depth(tmp_path: Path) -> None:
    run = self_taught(tmp_path / "run", max_depth=2)
    (untouched,) = Roles(run, 1).members("teacher")
    assert (untouched.adapter, untouched.depth, untouched.config.model) == (None, 0, "a")
    accept_round_1(run, max_depth=1)
    (trained,) = Roles(run, 2).members("teacher")
    assert (trained.adapter, trained.depth) == (run.adapter(1), 1)
    assert trained.identity != untouched.identity
    ctx = open_context(run, round=2)
    ctx.ask("teacher", "solve.jinja", prompt="p")
    candidate = ctx.candidate("p", "#### 5")
    assert isinstance(candidate, Candidate)
    assert candidate.depth == 2


def test_too_deep_a_teacher_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    run = self_taught(tmp_path / "run")
    refuse_depth(Roles(run, 1), run.config, 1)
    accept_round_1(run, max_depth=1)
    with pytest.raises(UserError, match=r"set generate.max_depth=2"):
        refuse_depth(Roles(run, 2), run.config, 2)
    ctx = open_context(run, round=2)
    ctx.ask("teacher", "solve.jinja", prompt="p")
    outcome = ctx.candidate("p", "#### 5")
    assert isinstance(outcome, Reject)
    assert outcome.reason.startswith("too deep")


def test_roles_with_the_same_engine_share_it_whatever_their_sampling(tmp_path: Path) -> None:
    teacher = {"engine": "tests.generate.scripted", "model": "a", "sampling": {"temperature": 1.0}}
    critic = {**teacher, "sampling": {"temperature": 0.0}}
    judge = {**teacher, "model": "b"}
    student = {"engine": "tests.generate.scripted", "model": "a"}
    run = build_run(tmp_path / "run", student=student, roles={"teacher": teacher, "critic": critic, "judge": judge})
    members = {member.engine: member for member in Roles(run, 1).all_members()}
    assert sorted(member.config.model for member in members.values()) == ["a", "b"]
    assert all(Engines(members.values()).is_exclusive(engine) for engine in members)


def test_a_server_that_we_start_is_on_the_device_and_one_that_runs_elsewhere_is_not() -> None:
    def member(name: str, **settings: Any) -> Member:
        config = plugins.configure("engine", "server", {"model": name, **settings})
        return Member(engine=name, name="server", config=config, sampling={}, adapter=None, identity={})

    ours, other = member("a", serve=True), member("b", serve=True)
    elsewhere = member("c", base_urls=["http://127.0.0.1:1/v1"])
    engines = Engines([ours, other, elsewhere])
    assert [engines.is_exclusive(name) for name in "abc"] == [True, True, False]
    assert not Engines([ours, elsewhere]).is_exclusive("a")
