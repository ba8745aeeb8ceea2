import itertools
from pathlib import Path

import pytest
import yaml

from synthloop import plugins
from synthloop.config import Config, dump, load_config, parse
from synthloop.errors import UserError
from synthloop.yaml_file import read_yaml

MINIMAL = {"name": "x", "task": {"name": "gsm8k", "path": "d"}, "student": {"model": "m"}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_overrides_reach_nested_keys_and_list_items(file: Path) -> None:
    config = load_config(
        file, ["generate.recipes=[{name: repair}, {name: explore}]", "generate.recipes.1.share=3", "rounds=7"]
    )
    assert [recipe.share for recipe in config.generate.recipes] == [1.0, 3.0]
    assert config.rounds == 7


@pytest.mark.parametrize("override", ["rounds", "=3", "generate.recipes.4.share=1", "name.deeper=1"])
def test_an_override_that_leads_nowhere_is_refused(file: Path, override: str) -> None:
    with pytest.raises(UserError, match="override"):
        load_config(file, [override])


def test_every_mistake_is_named_at_once_with_its_path_and_the_nearest_key(file: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, ["rouns=3", "generate.num_seed=4", "mix.max_synthetic_ratio=-1", "decide.patience=0"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert any("'rouns'" in line and "'rounds'" in line for line in lines)
    assert any("'generate.num_seed'" in line and "'num_seeds'" in line for line in lines)
    assert any("'mix.max_synthetic_ratio'" in line and "found -1" in line for line in lines)


def test_a_role_may_be_one_engine_or_a_committee() -> None:
    config = parse(
        Config, {**MINIMAL, "roles": {"teacher": {"model": "a"}, "judge": [{"model": "b"}, {"model": "c"}]}}, "x"
    )
    assert [one.settings["model"] for one in config.committee("judge")] == ["b", "c"]
    assert len(config.committee("teacher")) == 1
    assert config.committee("student")[0].settings["model"] == "m"
    with pytest.raises(UserError, match="reward"):
        config.committee("reward")


def test_wandb_off_is_understood_as_yaml_reads_it(file: Path) -> None:
    assert load_config(file, ["tracking.wandb=off"]).tracking.wandb == "off"


def test_the_written_config_reads_back_the_same() -> None:
    config = parse(Config, {**MINIMAL, "roles": {"teacher": {"model": "a", "args": {"seed": 1}}}}, "x")
    assert parse(Config, dump(config), "again") == config


def test_broken_files_are_one_clear_message(tmp_path: Path) -> None:
    broken = tmp_path / "b.yaml"
    with pytest.raises(UserError, match="no such config file"):
        read_yaml(broken)
    for text, message in (("a: [", "not valid YAML"), ("- 1", "expected a YAML mapping")):
        broken.write_text(text)
        with pytest.raises(UserError, match=message):
            read_yaml(broken)


ROOT = Path(__file__).parents[1]
SHIPPED = sorted([*ROOT.glob("configs/*.yaml"), *ROOT.glob("configs/recipes/*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_loads_and_opens_with_its_command(path: Path) -> None:
    load_config(path)
    head = list(itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
    assert any(f"synthloop run {path.relative_to(ROOT)}" in line for line in head)
    assert any("hardware" in line.lower() for line in head)


def test_every_recipe_ships_a_config_that_runs_it_alone() -> None:
    shipped = {path.stem: load_config(path) for path in SHIPPED if path.parent.name == "recipes"}
    assert sorted(shipped) == plugins.names("recipe")
    assert all([one.name for one in config.generate.recipes] == [name] for name, config in shipped.items())


def test_self_improvement_is_verified_from_outside() -> None:
    """Its samples are solutions of real train problems, kept where they reach the gold answer."""
    config = load_config(ROOT / "configs" / "self_improve.yaml")
    assert all(member.is_student for member in config.committee("teacher"))
    assert {one.name for one in config.generate.recipes} <= {"rejection", "star"}
    assert "verify" in {one.name for one in config.curate.filters}


@pytest.mark.parametrize("value", [".inf", "true"])
def test_what_is_no_number_is_told_once(file: Path, value: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, [f"rounds={value}"])
    assert len(str(caught.value).splitlines()) == 1
