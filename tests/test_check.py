"""`synthloop check`: each bad input is one clear message, and no model is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthloop.check import check_config
from synthloop.config import Config, parse
from synthloop.errors import UserError

ROOT = Path(__file__).parents[1]


def settings(model: Path, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "x",
        "task": {"name": "word_problems"},
        "student": {"model": str(model)},
        "roles": {"teacher": {"model": str(model)}},
        "generate": {"recipes": [{"name": "repair"}]},
        "train": {"accelerate": str(ROOT / "configs/accelerate/cpu.yaml")},
    }
    return base | changes


def mistakes(given: dict[str, Any]) -> list[str]:
    try:
        check_config(parse(Config, given, "c.yaml"), "c.yaml")
    except UserError as error:
        return str(error).splitlines()
    return []


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_good_config_has_no_mistakes(model: Path) -> None:
    assert mistakes(settings(model)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"name": "word_problem"}}, "Did you mean 'word_problems'?"),
        (
            {"task": {"name": "word_problems", "num_trian": 3}},
            "unknown key 'task.num_trian'. Did you mean 'num_train'?",
        ),
        ({"generate": {"recipes": [{"name": "repare"}]}}, "Did you mean 'repair'?"),
        ({"curate": {"filters": [{"name": "novelty", "treshold": 1}]}}, "Did you mean 'threshold'?"),
        (
            {"train": {"args": {"learning_rat": 1e-3}}},
            "unknown key 'learning_rat' of trl.SFTConfig. Did you mean 'learning_rate'",
        ),
        ({"train": {"args": {"learning_rate": "5e-3"}}}, "YAML reads numbers as 5.0e-3"),
        ({"train": {"lora": {"alpha": 1}}}, "unknown key 'alpha' of peft.LoraConfig"),
        ({"train": {"quantization": {"load_in_4bits": True}}}, "Did you mean 'load_in_4bit'?"),
        ({"train": {"args": {"output_dir": "o"}}}, "'output_dir' cannot be set"),
        ({"train": {"accelerate": "none.yaml"}}, "no such file none.yaml"),
        ({"train": {"lora": {"r": 4096}}}, "'train.lora.r' is 4096, above the limit"),
        ({"train": {"objective": "dpoo"}}, "'train.objective'"),
        ({"eval": {"sampling": {"temprature": 0}}}, "Did you mean 'temperature'?"),
        ({"roles": {}}, "'roles.teacher' is missing"),
        ({"generate": {"prompts": "nowhere", "recipes": [{"name": "repair"}]}}, "no such folder nowhere"),
        ({"generate": {"recipes": []}}, "'roles' are read by nothing"),
        ({"generate": {"recipes": []}, "mix": {"policy": "adaptive"}}, "no synthetic data to choose from"),
        ({"generate": {"recipes": [{"name": "repair"}], "allocation": "thompson"}}, "trials of mix.policy: adaptive"),
        (
            {
                "generate": {"recipes": [{"name": "repair"}], "allocation": "thompson"},
                "mix": {"policy": "adaptive"},
            },
            "generate.recipes has one entry",
        ),
        ({"task": {"name": "jsonl", "train": "none.jsonl", "test": "none.jsonl", "scorer": "exact"}}, "none.jsonl"),
    ],
)
def test_each_mistake_is_named(model: Path, changes: dict[str, Any], message: str) -> None:
    found = mistakes(settings(model, **changes))
    assert any(message in line for line in found), found


def test_engine_arguments_are_checked_against_vllm(model: Path) -> None:
    roles = {"teacher": {"model": str(model), "args": {"max_modellen": 3}, "sampling": {"top": 1}, "modle": "x"}}
    found = mistakes(settings(model, roles=roles))
    assert len(found) == 3, found
    assert any("'roles.teacher.args'" in line and "'max_model_len'" in line for line in found)


def test_a_student_that_teaches_itself_must_opt_in_to_depth(model: Path) -> None:
    given = settings(model, roles={"teacher": {"model": "student"}})
    assert any("generate.max_depth=3" in line for line in mistakes(given))
    assert mistakes(given | {"generate": {"recipes": [{"name": "repair"}], "max_depth": 3}}) == []


def test_a_model_folder_without_tokenizer_or_template_or_at_all(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "away.json")
    assert any("has no tokenizer" in line for line in mistakes(settings(model)))
    (model / "away.json").rename(model / "tokenizer.json")
    assert any("no such folder" in line for line in mistakes(settings(model / "missing")))
    template = model / "chat_template.jinja"
    assert template.exists() or "chat_template" in json.loads((model / "tokenizer_config.json").read_text())
    template.unlink(missing_ok=True)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert any("no chat template" in line for line in mistakes(settings(model)))


def test_a_template_that_drops_the_system_turn(model: Path) -> None:
    (model / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    )
    assert mistakes(settings(model)) == []
    found = mistakes(settings(model, task={"name": "word_problems", "system": "You are brief."}))
    assert any("drops the system turn" in line for line in found)


def test_prompts_longer_than_the_context(model: Path) -> None:
    found = mistakes(settings(model, student={"model": str(model), "args": {"max_model_len": 8}}))
    assert any("longer than the student's context" in line for line in found)


def user_task(folder: Path, lines: list[str]) -> dict[str, Any]:
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "test.jsonl").write_text('{"input": "who", "output": "me"}\n')
    paths = {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}
    return {"name": "jsonl", **paths, "scorer": "exact"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"input": "a", "output": "b"}', '{"input": "a", '], "train.jsonl, line 2"),
        (['{"input": "a", "output": "b"}', "[1]"], "line 2: expected a JSON object, found list"),
        (['{"inptu": "a", "output": "b"}'], "line 1"),
        ([""], "train"),
    ],
)
def test_a_users_own_file_that_does_not_parse(model: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    found = mistakes(settings(model, task=user_task(tmp_path, lines)))
    assert any(message in line for line in found), found


def test_the_command_exits_with_2_and_no_traceback(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings(model)))
    command = [str(Path(sys.executable).with_name("synthloop")), "check", str(file)]
    assert subprocess.run(command, check=False).returncode == 0
    done = subprocess.run([*command, "rouns=3"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "rounds" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_loads_no_heavy_package(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings(model)))
    code = (
        "import sys; from synthloop.config import load_config; from synthloop.check import check_config\n"
        f"from pathlib import Path; check_config(load_config(Path({str(file)!r})), 'c')\n"
        "print(sorted({'torch', 'vllm', 'trl', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
