"""The stage `mix`: what it reads, counts, weighs, replays and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthloop.config import Config
from synthloop.errors import UserError
from synthloop.records import Candidate, Example, Message, Row
from synthloop.store import Run, read_rows, write_json, write_rows
from train.mix import mix_round

PROMPT = (Message(role="user", content="Tom has 3 apples and buys 4 more. How many?"),)


def make_run(root: Path, model: Path, mix: dict[str, object], curated: dict[int, int] | None = None) -> Run:
    """A run with four real rows and `curated[round]` candidates."""
    settings = {
        "name": "mixing",
        "student": {"model": str(model)},
        "task": {"name": "word_problems"},
        "generate": {"recipes": [{"name": "repair"}, {"name": "explore"}]},
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


def test_weights_of_sources_and_recipes_scale_those_of_filters(tmp_path: Path, tiny_model: Path) -> None:
    weights = {"real": 2.0, "synthetic": 0.5, "recipe:explore": 0.25}
    run = make_run(tmp_path, tiny_model, {"policy": "accumulate", "weights": weights}, {1: 2})
    path = run.round_dir(1) / "curated.jsonl"
    first, second = read_rows(path, Candidate)
    write_rows(path, [first.model_copy(update={"weight": 3.0}), second.model_copy(update={"recipe": "explore"})])
    mix_round(run, 1)
    rows = {one.id: one for one in read_rows(run.round_dir(1) / "train.jsonl", Row)}
    assert {one.weight for one in rows.values() if one.source == "real"} == {2.0}
    assert (rows[first.id].weight, rows[second.id].weight) == (1.5, 0.25)
    facts = json.loads((run.round_dir(1) / "mix.json").read_text())
    assert facts["real_loss_share"] == pytest.approx(8 / 9.75)  # completions of one length


HELD_OUT_PROMPT = (Message(role="user", content="Ann reads nine pages of her book each day for a week in May."),)


def with_replay(run: Run, path: Path, num_rows: int) -> None:
    """Held-out splits of one example, and a replay file of `num_rows` lines of which the first is that example."""
    held_out = Example(id="h", input="Ann", messages=HELD_OUT_PROMPT, completion="63", answer="63")
    for name in ("probe", "gate", "test"):
        write_rows(run.split(name), [held_out])
    prompts = [HELD_OUT_PROMPT[0]["content"], *(f"Translate sentence {n} of the book." for n in range(num_rows - 1))]
    path.write_text("".join(json.dumps({"prompt": one, "completion": "Ja."}) + "\n" for one in prompts))


def test_replay_draws_rows_of_earlier_skills_that_are_not_held_out(tmp_path: Path, tiny_model: Path) -> None:
    old = tmp_path / "old.jsonl"
    mix: dict[str, object] = {"unit": "rows", "replay": str(old), "replay_ratio": 1.5, "weights": {"replay": 0.5}}
    run = make_run(tmp_path / "run", tiny_model, mix, {1: 1, 2: 1})
    with_replay(run, old, 9)
    mix_round(run, 1)
    rows = [one for one in read_rows(run.round_dir(1) / "train.jsonl", Row) if one.source == "replay"]
    assert len(rows) == 6
    assert {one.weight for one in rows} == {0.5}
    assert all(one.num_tokens > 0 and "Translate" in one.messages[0]["content"] for one in rows)
    facts = json.loads((run.round_dir(1) / "mix.json").read_text())
    assert {key: facts["replay"][key] for key in ("available", "held_out")} == {"available": 8, "held_out": 1}
    assert "1 rows of" in run.stage(1, "mix").record()["warnings"][0]
    with_replay(run, old, 20)
    with pytest.raises(UserError, match=r"changed since round 1 was mixed .* --from 1/mix"):
        mix_round(run, 2)


def test_replay_of_held_out_rows_alone_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    old = tmp_path / "old.jsonl"
    run = make_run(tmp_path / "run", tiny_model, {"replay": str(old), "replay_ratio": 1.0}, {1: 1})
    with_replay(run, old, 1)
    with pytest.raises(UserError, match="all 1 rows of .* are held out"):
        mix_round(run, 1)


def test_an_override_is_an_input_of_the_stage(tmp_path: Path, tiny_model: Path) -> None:
    run = make_run(tmp_path, tiny_model, {"unit": "rows"}, {1: 4})
    path = run.round_dir(1) / "mix_override.json"
    write_json(path, {"max_synthetic_ratio": 0.5, "reason": "the guard halved it"})
    mix_round(run, 1)
    record, facts = run.stage(1, "mix").record(), json.loads((run.round_dir(1) / "mix.json").read_text())
    assert "round-001/mix_override.json" in record["inputs"]
    assert (facts["asked"]["max_synthetic_ratio"], facts["bounds"]["synthetic_per_real"]) == (1.0, 0.5)
    assert (facts["synthetic_rows"], facts["override"]["reason"]) == (2, "the guard halved it")
    assert "the guard halved it" in record["warnings"][0]
    run.stage(1, "mix").forget()
    write_json(path, {"max_synthetic_ratio": 0.5, "reasons": "?"})
    with pytest.raises(UserError, match=r"mix_override\.json.*'reasons'"):
        mix_round(run, 1)


def test_replace_without_a_synthetic_row_has_nothing_to_train_on(tmp_path: Path, tiny_model: Path) -> None:
    run = make_run(tmp_path, tiny_model, {"policy": "replace"}, {1: 0})
    with pytest.raises(UserError, match="no synthetic row was kept to train on"):
        mix_round(run, 1)
