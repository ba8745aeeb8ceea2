"""What YAML files may hold, and the one line that says what is wrong with one."""

import re
from pathlib import Path
from typing import Any

import pytest

from synthloop.config import load_config
from synthloop.errors import UserError
from synthloop.yaml_file import read_yaml

BASE = "task: {name: gsm8k, path: d}\nstudent: {model: m}\n"


def read(folder: Path, content: str | bytes, *overrides: str) -> dict[str, Any]:
    path = folder / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path, overrides)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1e-4", {"a": 1e-4}),
        ("a: -2E+3", {"a": -2000.0}),
        ("a: 5.0e-3", {"a": 0.005}),
        ("a: '1e-4'", {"a": "1e-4"}),
        ("a: 1e", {"a": "1e"}),
        ("a: [3e2, x]", {"a": [300.0, "x"]}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: ä", {"a": "ä"}),
        ("x: &x {b: 1, c: 2}\na: {<<: *x, c: 3}", {"x": {"b": 1, "c": 2}, "a": {"b": 1, "c": 3}}),
        ("x: &x [1]\na: *x", {"x": [1], "a": [1]}),
        ("a: {0: b}", {"a": {0: "b"}}),
    ],
)
def test_what_is_read(tmp_path: Path, content: str, expected: dict[str, Any]) -> None:
    assert read(tmp_path, content) == expected


DEEP = "[" * 5_000 + "]" * 5_000
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file"),
        ("# nothing\n", "found an empty file"),
        ("- 1", "found a list"),
        ("text", "found a str"),
        ("a: [", "line 1, column 5: "),
        ("a:\n\tb: 1", "with spaces, not tabs"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2: the key 'c' stands twice (first in line 2)"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice (first in line 1)"),
        (b"a: \xff\xfe", "not UTF-8 (invalid start byte at byte 3)"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (f"a: {DEEP}", "nested too deeply"),
        (LAUGHS, "with its aliases it holds over"),
        ("a: &a [*a]", "an alias contains itself"),
        ("a: *nowhere", "undefined alias"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !mine x", "could not determine a constructor"),
        ("a: 2026-13-45", "month must be in"),
        (f"a: {'9' * 5_000}", "not valid YAML"),
        ("a: b: c", "mapping values are not allowed here"),
        ("{a: 1", "line 1"),
        ("a: \x07", "special characters are not allowed"),
        ("? [1]\n: 2", "unhashable"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("roles.teacher.0.args.x=1", {"teacher": {"model": "m", "args": {"x": 1}}}),
        ("roles.teacher.args.x=1e-4", {"teacher": {"model": "m", "args": {"x": 1e-4}}}),
        ("roles.judge.model=j", {"teacher": {"model": "m"}, "judge": {"model": "j"}}),
    ],
)
def test_a_role_that_is_one_engine_is_also_its_number_0(tmp_path: Path, override: str, expected: Any) -> None:
    assert read(tmp_path, "roles: {teacher: {model: m}}", override)["roles"] == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("roles.teacher.1.args.x=1", "there is one engine, and number 1 is asked for"),
        ("roles.teacher.model.x=1", "leads nowhere"),
        ("a=[", "leads nowhere"),
        (f"a={DEEP}", "nested too deeply"),
        ("a={b: 1, b: 2}", "stands twice"),
    ],
)
def test_an_override_that_leads_nowhere(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "roles: {teacher: {model: m}}", override)


def test_the_nearest_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(UserError, match="Did you mean .*quickstart.yaml"):
        read_yaml(tmp_path / "quickstrat.yaml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rounds: true", "'rounds' is true; expected a number."),
        ("splits: {probe: true}", "'splits.probe' is true; expected a number."),
        ("decide: {min_gain: .nan}", "'decide.min_gain' is nan; expected a finite number."),
        ("decide: {min_gain: .inf}", "'decide.min_gain' is inf; expected a finite number."),
        ("budget: {gpu_hours: .inf}", "'budget.gpu_hours' is inf"),
        ("seed: -1", "'seed': Input should be greater than or equal to 0, found -1."),
        ("1: x", "the key 1"),
        ("true: x", "the key True"),
        ("null: x", "the key None"),
        ("generate: 3", "'generate': Input should be"),
        ("roles: {teacher: 3}", "'roles.teacher': "),
        ("roles: {teacher: {engine: 3}}", "'roles.teacher.engine': Input should be a valid string, found 3."),
        ("generate: {recipes: [{share: 1}]}", "'generate.recipes.0.name' is missing."),
        ("collapse: {horizon: x}", "'collapse.horizon': "),
        ("generate: {num_seeds: many}", "found 'many'."),
        (f"rounds: {'[' * 60}{']' * 60}", "'rounds': "),
        (f"rounds: {'x' * 5_000}", "'rounds': "),
    ],
)
def test_values_no_config_has(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE + line)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not re.search(r"'[\w.]*\.'", str(caught.value)), "a path that ends in a dot"


@pytest.mark.parametrize(
    "written", ["07:45", "0090", "5.20", "2e4", "0b11", "1_000", "No", "2024-02-30", ".5", "+7", ".inf"]
)
def test_as_text_a_value_is_what_is_written(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.yaml").write_text(f"{written}: [{written}, null, ~]\n")
    assert read_yaml(tmp_path / "a.yaml", as_text=True) == {written: [written, None, None]}
