"""The clock that chat templates read: a run's own date, the same in every process and on a server that renders."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop import chat, chat_template, child
from synthloop.chat_template import DIRECTIVES, ChatTemplate, show_time, with_fixed_time
from synthloop.provenance import write_provenance
from synthloop.records import Message
from synthloop.store import write_json
from tests.shapes import SHAPES, Shape, tokenizer_of
from tests.train.test_mix_stage import make_run

USER = Message(role="user", content="2 + 2?")
EVENING = datetime(2025, 2, 28, 23, 59, 58)


@pytest.fixture(autouse=True)
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test shows is not shown in the next."""
    monkeypatch.setattr(chat_template, "_shown", [])


@pytest.fixture(scope="module")
def dated() -> Any:
    return tokenizer_of(SHAPES["dated"])


def test_a_stage_of_a_run_shows_the_day_on_which_the_run_began(dated: Any, tmp_path: Path, tiny_model: Path) -> None:
    run = make_run(tmp_path, tiny_model, {})
    stage = argparse.Namespace(run=run.root, round=1)
    child.open_run(stage)
    assert datetime.now().strftime("%d %b %Y") in chat.prompt_text(dated, [USER])
    write_json(run.root / "provenance.json", {"started": EVENING.isoformat()}, sealed=True)
    child.open_run(stage)
    learned = [*chat.prompt_ids(dated, [USER]), *chat.completion_ids(dated, [USER], "4")]
    assert "Today Date: 28 Feb 2025" in dated.decode(learned)


def test_a_run_records_when_it_began_once(tmp_path: Path, tiny_model: Path) -> None:
    run = make_run(tmp_path, tiny_model, {})
    assert run.started is None
    write_provenance(run)
    began = run.started
    assert began is not None
    assert began <= datetime.now()
    show_time(EVENING)
    write_provenance(run)
    assert run.started == began


def test_a_user_may_name_the_day(dated: Any) -> None:
    assert "Today Date: 1 May 2024" in chat.prompt_text(dated, [USER], date_string="1 May 2024")


@settings(max_examples=50, deadline=None)
@given(
    moment=st.datetimes(min_value=datetime(1900, 1, 1)),
    format=st.lists(st.sampled_from([*(f"%{one}" for one in DIRECTIVES), " ", "-", "of", "年"]), max_size=4),
)
def test_a_template_that_tells_the_time_itself_renders_the_same(moment: datetime, format: list[str]) -> None:
    """In any place of it: at the top, and in a macro of its own."""
    source = (
        "\n{% macro day() %}{{ strftime_now('" + "".join(format) + "') }}{% endmacro %}"
        "{% if strftime_now is defined %}{{ '<' + strftime_now('" + "".join(format) + "') + '>' }}{% endif %}"
        "{% for m in messages %}{{ day() }}{{ m.content }}{% endfor %}"
    )
    show_time(moment)
    frozen = ChatTemplate(with_fixed_time(source), ())
    text = ChatTemplate(source, ()).render([USER], generation_prompt=False)
    assert f"<{moment.strftime(''.join(format))}>" in text
    show_time(EVENING)
    assert frozen.render([USER], generation_prompt=False) == text


def test_transformers_renders_it_so_too(dated: Any, tmp_path: Path) -> None:
    show_time(EVENING)
    text = chat.prompt_text(dated, [USER])
    itself = tokenizer_of(Shape(with_fixed_time(SHAPES["dated"].template), SHAPES["dated"].tokens))
    assert itself.apply_chat_template([USER], tokenize=False, add_generation_prompt=True) == text
