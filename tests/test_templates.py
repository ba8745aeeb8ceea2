"""Templates of a config: what is wrong with one is told by its name, and none reaches into Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from generate.filters import execute
from generate.prompts import Prompts
from synthloop import templates
from synthloop.errors import UserError
from synthloop.task import open_task, render_prompt

REACHING = [
    "{{ input.__class__ }}",
    "{{ input.__class__.__mro__ }}",
    "{{ ''.__init__.__globals__ }}",
    "{{ cycler.__init__ }}",
    "{{ '{0.__class__}'.format(input) }}",
]


@pytest.mark.parametrize("source", REACHING)
def test_a_template_reads_its_variables_only(tmp_path: Path, source: str) -> None:
    task = open_task("jsonl", {"train": "t.jsonl", "scorer": "exact", "prompt": source})
    with pytest.raises(UserError, match=r"task\.prompt: refused: .*unsafe"):
        task.messages("a")
    (tmp_path / "mine.jinja").write_text(source)
    with pytest.raises(UserError, match=r"The prompt 'mine\.jinja': refused: .*unsafe"):
        Prompts(tmp_path).render("mine.jinja", input="a")


def test_what_it_is_given_stays_as_it_is() -> None:
    rows = ["a"]
    with pytest.raises(UserError, match="refused"):
        templates.render(templates.sandbox().from_string("{{ rows.append('b') }}"), "mine", {"rows": rows})
    assert rows == ["a"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ inptu }}", r"task.prompt: 'inptu' is undefined. It is given: input."),
        ("{{ input + 1 }}", r"task.prompt: TypeError: "),
        ("{{ 1 // (input | length - 1) }}", r"task.prompt: ZeroDivisionError: "),
        ("{% include 'other' %}", r"task.prompt: TypeError: no loader"),
    ],
)
def test_what_a_template_does_wrong_is_told(source: str, told: str) -> None:
    task = open_task("jsonl", {"train": "t.jsonl", "scorer": "exact", "prompt": source})
    with pytest.raises(UserError, match=told):
        render_prompt(task.config, "a")


@pytest.mark.parametrize("source", ["{{ input", "{% if %}", "line\n{{ input | nosuchfilter }}"])
def test_a_template_that_does_not_parse_is_a_mistake_in_the_settings(source: str) -> None:
    with pytest.raises(ValidationError, match="no Jinja template: .*line"):
        open_task("jsonl", {"train": "t.jsonl", "scorer": "exact", "prompt": source})
    with pytest.raises(ValidationError, match="no Jinja template: .*line"):
        execute.Config(template=source)
