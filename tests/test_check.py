"""`synthloop check`: each bad input is one clear message, and no model is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthloop import chat_template
from synthloop.check import check_config, check_file
from synthloop.config import Config, TrainJob, parse
from synthloop.errors import UserError
from synthloop.splits import prepare
from tests.shapes import SHAPES, put_on, tokenizer_of
from train.preview import preview

ROOT = Path(__file__).parents[1]


TASK = {"name": "word_problems", "num_train": 60, "num_test": 20}


def settings(model: Path, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "x",
        "task": TASK,
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
        ({"train": {"args": {"learning_rate": "5e-3"}}}, "'learning_rate' is '5e-3'; trl.SFTConfig expects a number."),
        ({"train": {"args": {"learning_rate": "abc"}}}, "'learning_rate' is 'abc'"),
        ({"train": {"lora": {"r": "x"}}}, "'r' is 'x'; peft.LoraConfig expects a whole number."),
        ({"train": {"lora": {"target_modules": "foo"}}}, "'train.lora.target_modules' is 'foo', which no module of"),
        ({"train": {"lora": {"target_modules": ["q_prj"]}}}, "Did you mean 'q_proj'?"),
        ({"train": {"lora": {"target_modules": "("}}}, "no regular expression"),
        ({"train": {"args": {"fp16": True}}}, "trains on the CPU here, which has no fp16"),
        ({"train": {"accelerate": "/etc/passwd"}}, "/etc/passwd is no file of accelerate's"),
        ({"train": {"accelerate": "configs/quickstart.yaml"}}, "is no file of accelerate's"),
        ({"eval": {"sampling": {"temperature": "hot"}}}, "'eval.sampling': 'temperature' is 'hot'"),
        ({"task": {"name": ".foo"}}, "Unknown task '.foo'"),
        ({"task": {"name": "word_problems", "prompt": "{% if"}}, "'task.prompt': no Jinja template: "),
        ({"task": {"name": "word_problems", "prompt": "{{ inptu }}"}}, "'inptu' is undefined. It is given: input."),
        ({"curate": {"filters": [{"name": "judge", "rubric": "none.yaml"}]}}, "none.yaml"),
        (
            {"generate": {"recipes": [{"name": "taxonomy", "taxonomy": "nowhere"}]}},
            "'generate.recipes.0.taxonomy': no such file or folder nowhere",
        ),
        ({"train": {"lora": {"alpha": 1}}}, "unknown key 'alpha' of peft.LoraConfig"),
        ({"train": {"quantization": {"load_in_4bits": True}}}, "Did you mean 'load_in_4bit'?"),
        ({"train": {"args": {"output_dir": "o"}}}, "'output_dir' cannot be set"),
        ({"train": {"accelerate": "none.yaml"}}, "no such file none.yaml"),
        ({"train": {"lora": {"r": 4096}}}, "'train.lora.r' is 4096, above the limit"),
        (
            {"train": {"lora": {"r": 300, "init_lora_weights": "pissa"}}},
            "once it is rewritten as plain LoRA, is 600, above",
        ),
        ({"train": {"lora": {"rank_pattern": {"q_proj": 1024}}}}, "plain LoRA, is 1024, above the limit 512"),
        (
            {"train": {"lora": {"rank_pattern": {"k_prj": 4}}}},
            "'train.lora.rank_pattern' has 'k_prj', which no module of",
        ),
        (
            {"train": {"lora": {"use_dora": True}}},
            "'train.lora.use_dora' is True, which the engine vllm_offline does not",
        ),
        ({"train": {"lora": {"init_lora_weights": "corda"}}}, "needs covariances of the training rows"),
        (
            {
                "train": {"lora": {"target_modules": ["q_proj", "v_proj"]}},
                "student": {"model": "m/m", "args": {"lora_target_modules": ["q_proj"]}},
            },
            "'student.args.lora_target_modules' lacks v_proj",
        ),
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
        ({"student": {"model": "./nix"}}, "'student.model': no such folder nix"),
        ({"train": {"args": {"per_device_train_batch_size": 0}}}, "'per_device_train_batch_size' is 0; expected 1 or"),
        ({"train": {"lora": {"r": 0}}}, "'r' is 0; expected 1 or more"),
        ({"train": {"lora": {"rank_pattern": {"q_proj": 0}}}}, "'rank_pattern' is {'q_proj': 0}; expected a rank of 1"),
        ({"train": {"lora": {"rank_pattern": {"q_proj": -3, "k_proj": 2}}}}, "expected a rank of 1 or more for each"),
        ({"train": {"lora": {"alpha_pattern": {"q_proj": "x"}}}}, "expected a number for each"),
        (
            {"train": {"lora": {"layers_to_transform": [0, 99], "target_modules": ["q_proj"]}}},
            "'train.lora.layers_to_transform' has 99, and ",
        ),
        ({"train": {"lora": {"layers_to_transform": -1}}}, "'layers_to_transform' is -1; expected numbers of layers"),
        (
            {"train": {"lora": {"layers_to_transform": 0, "layers_pattern": "blocks", "target_modules": ["q_proj"]}}},
            "has no layers of that name",
        ),
        (
            {"train": {"lora": {"layers_to_transform": [0], "target_modules": "all-linear"}}},
            "PEFT takes none beside a text",
        ),
        ({"train": {"lora": {"layers_pattern": "layers"}}}, "'layers_pattern' is 'layers'; expected null, or"),
        (
            {"student": {"model": "m/m", "engine": "hf", "args": {"max_model_len": 64, "dtype": "float32"}}},
            "'student.args': max_model_len: only vLLM takes it",
        ),
        ({"eval": {"sampling": {"top_p": 0}}}, "'top_p' is 0; expected a number above 0 and up to 1"),
        ({"student": {"model": "m/m", "args": {"gpu_memory_utilization": 1.2}}}, "'gpu_memory_utilization' is 1.2;"),
        ({"generate": {"recipes": [{"name": "repair", "shar": 1}]}}, "Did you mean 'share'?"),
    ],
)
def test_each_mistake_is_named(model: Path, changes: dict[str, Any], message: str) -> None:
    found = mistakes(settings(model, **changes))
    assert any(message in line for line in found), found


ALL_LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize(
    ("lora", "served", "lacks"),
    [
        ({"target_modules": "all-linear"}, ["q_proj"], [one for one in ALL_LINEAR if one != "q_proj"]),
        ({"target_modules": "All-Linear"}, ALL_LINEAR[1:], ["down_proj"]),
        ({"target_modules": "all-linear"}, ALL_LINEAR, []),
        ({"target_modules": "all-linear", "exclude_modules": ["down_proj"]}, ALL_LINEAR[1:], []),
        ({"target_modules": "all-linear", "exclude_modules": r".*down_.*"}, ALL_LINEAR[1:], []),
        ({"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]}, ["q_proj"], []),
        ({"target_modules": r".*\.[qk]_proj"}, ["q_proj"], ["k_proj"]),
    ],
)
def test_the_modules_that_vllm_is_to_serve_are_those_that_are_trained(
    model: Path, lora: dict[str, Any], served: list[str], lacks: list[str]
) -> None:
    student = {"model": str(model), "args": {"lora_target_modules": served}}
    found = mistakes(settings(model, student=student, train={"lora": lora, **settings(model)["train"]}))
    assert len(found) == bool(lacks), found
    assert all(f"'student.args.lora_target_modules' lacks {', '.join(lacks)}, which" in line for line in found)


def test_the_advice_to_take_the_hf_engine_can_be_followed(model: Path) -> None:
    dora = {"train": {"lora": {"use_dora": True}, **settings(model)["train"]}}
    args = {"max_model_len": 512, "enforce_eager": True}
    (told,) = mistakes(settings(model, **dora, student={"model": str(model), "args": args}))
    assert "student.engine=hf" in told
    assert "student.args={}" in told
    (told,) = mistakes(settings(model, **dora, student={"model": str(model), "engine": "hf", "args": args}))
    assert "enforce_eager, max_model_len: only vLLM takes them" in told
    assert mistakes(settings(model, **dora, student={"model": str(model), "engine": "hf", "args": {}})) == []


def test_a_student_of_a_kind_that_vllm_puts_no_adapter_on(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}))
    assert any("vLLM puts no LoRA adapter on GPT2LMHeadModel" in line for line in mistakes(settings(model)))
    assert mistakes(settings(model, student={"model": str(model), "engine": "hf"})) == []


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


def test_a_template_that_drops_the_system_turn(model: Path, tiny_model: Path) -> None:
    roles = {"teacher": {"model": str(tiny_model)}}
    (model / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    )
    assert mistakes(settings(model, roles=roles)) == []
    found = mistakes(settings(model, roles=roles, task={**TASK, "system": "You are brief."}))
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


@pytest.mark.parametrize(
    ("kept", "splits"),
    [
        (41, {}),
        (41, {"on_overlap": "drop"}),
        (2, {}),
        (40, {"probe": 30, "gate": 30}),
        (40, {}),
    ],
)
def test_check_and_run_split_alike(model: Path, tmp_path: Path, kept: int, splits: dict[str, Any]) -> None:
    """Overlap, empty splits and `splits.on_overlap`: what the run refuses is a mistake, in the same words."""
    rows = [json.dumps({"input": f"what is {n}", "output": f"{n}"}) for n in range(40)]
    task = user_task(tmp_path, [*rows, '{"input": "who", "output": "me"}'][:kept])
    given = settings(model, task=task, splits=splits)
    expected = []
    try:
        prepare(parse(Config, given, "c.yaml"), tmp_path / "run")
    except UserError as error:
        expected = [f"c.yaml: 'task': {error}"]
    assert mistakes(given) == expected


def test_the_test_file_may_not_be_the_train_file(model: Path, tmp_path: Path) -> None:
    task = user_task(tmp_path, [f'{{"input": "what is {n}", "output": "{n}"}}' for n in range(40)])
    (found,) = mistakes(settings(model, task={**task, "test": task["train"]}))
    assert "40 of the 40 rows of 'train' also stand in 'test'" in found


TASK_LINE = "task: {name: word_problems, num_train: 60, num_test: 20}"
FOUR = f"""
{TASK_LINE}
student: {{model: MODEL}}
roles: {{teacher: {{model: MODEL}}, judge: {{model: MODEL}}}}
generate: {{recipes: [{{name: repar}}, {{name: explore}}]}}
mix: {{max_synth: 3}}
train: {{accelerate: CPU, args: {{learning_rat: 0.1}}}}
"""


def written(folder: Path, model: Path, text: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(text.replace("MODEL", str(model)).replace("CPU", str(ROOT / "configs/accelerate/cpu.yaml")))
    return file


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            (),
            [
                "unknown key 'mix.max_synth'",
                "Unknown recipe 'repar'",
                "'learning_rat' of trl",
                "'roles.judge' is read by",
            ],
        ),
        (("judge:", "other:"), ["mix.max_synth", "'repar'", "'learning_rat'", "'roles.other' is read by nothing"]),
        (
            (TASK_LINE, ""),
            ["mix.max_synth", "'task' is missing", "'repar'", "'learning_rat'"],
        ),
        (("{name: repar}", "{share: 1}"), ["mix.max_synth", "'generate.recipes.0.name' is missing", "'learning_rat'"]),
        (("roles:", "role:"), ["unknown key 'role'", "mix.max_synth", "'repar'", "'learning_rat'"]),
    ],
)
def test_mistakes_of_all_layers_are_told_at_once_and_once(
    model: Path, tmp_path: Path, change: tuple[str, str], expected: list[str]
) -> None:
    text = FOUR.replace(*change) if change else FOUR
    with pytest.raises(UserError) as caught:
        check_file(written(tmp_path, model, text))
    lines = str(caught.value).splitlines()
    assert sorted(lines) == sorted(set(lines))
    assert all(any(part in line for line in lines) for part in expected), lines
    assert len(lines) == len(expected) + ("role:" in text), lines  # without `roles` the teacher is missing too


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"task": {"name": "gsm8"}}, "'task': Unknown task 'gsm8'. Did you mean 'gsm8k'?"),
        ({"task": {"name": "jsonl", "train": __file__, "scorer": "regex"}}, "'task': scorer 'regex' needs `pattern`"),
        (
            {"roles": {"teacher": {"engine": "server", "model": "m"}}},
            "'roles.teacher': there is no server. Give base_urls",
        ),
        ({"roles": {"teacher": {"model": "m", "args": {"max_modellen": 1}}}}, "'roles.teacher.args': unknown key"),
    ],
)
def test_a_mistake_is_told_once_with_its_path(model: Path, changes: dict[str, Any], line: str) -> None:
    (found,) = mistakes(settings(model, **changes))
    assert line in found


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("repair.jinja", "{% if %}", "repair.jinja, line 1: "),
        ("other.jinja", "{{ x", "other.jinja, line 1: "),
        (
            "repair.jinja",
            "{{ seed.no_such }}",
            "'generate.recipes.0' (repair), in its rehearsal: The prompt '",
        ),
        ("repair.jinja", b"\xff", "repair.jinja: not UTF-8"),
    ],
)
def test_prompt_files(model: Path, tmp_path: Path, file: str, content: str | bytes, message: str) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    generate = {"recipes": [{"name": "repair"}], "prompts": str(tmp_path / "prompts")}
    found = mistakes(settings(model, generate=generate))
    assert any(message in line for line in found), found


@pytest.mark.parametrize("shown", ["seed.example.input", "seed.example | conversation(task_system)"])
@pytest.mark.parametrize("num_turns", [1, 3])
def test_a_prompt_that_shows_the_last_turn_of_a_conversation(
    model: Path, tmp_path: Path, shown: str, num_turns: int
) -> None:
    turns = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"{n * 7}"}] * 2 for n in range(40)]
    task = user_task(tmp_path, [json.dumps({"messages": one[:num_turns], "output": f"{one}"}) for one in turns])
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "repair.jinja").write_text(f"Write one like {{{{ {shown} }}}}, {{{{ seed.response }}}}")
    generate = {"recipes": [{"name": "repair"}], "prompts": str(tmp_path / "prompts")}
    found = mistakes(settings(model, task={**task, "scorer": "exact"}, generate=generate))
    is_wrong = num_turns > 1 and "input" in shown
    assert any("Write {{ seed.example | conversation(task_system) }}." in line for line in found) == is_wrong, found
    assert not is_wrong or "shows seed.example.input, and " in "".join(found)


OWN_RECIPE = """
from pydantic import BaseModel
class Config(BaseModel):
    pass
{seeds}
def run(seed, ctx):
    reply = yield ctx.ask("teacher", "{prompt}")
    {rest}
    return ctx.candidate(reply, reply)
"""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, None),
        ({"prompt": "mine.jinja"}, "in its rehearsal: No prompt 'mine.jinja' in"),
        ({"seeds": "SEEDS = 'either'"}, "SEEDS = 'either'; expected one of any, failures, non_failures, train"),
        ({"rest": "nothing.at_all"}, "in its rehearsal: NameError: name 'nothing' is not defined (recipe.py, line"),
        ({"rest": "yield ctx.ask('critic', 'solve.jinja', problem=reply)"}, "roles.critic is not in the config"),
    ],
)
def test_a_recipe_of_the_users_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str | None
) -> None:
    name = f"own_recipe_{tmp_path.name}"
    source = OWN_RECIPE.format(**{"prompt": "explore.jinja", "seeds": "", "rest": "pass", **given})
    (tmp_path / name).mkdir()
    (tmp_path / name / "recipe.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = mistakes(settings(model, generate={"recipes": [{"name": f"{name}.recipe"}]}))
    assert (found == []) if message is None else any(message in line for line in found), found


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"tensor_parallel_size": 3},
            "'roles.teacher.args.tensor_parallel_size' is 3, which does not divide the 2",
        ),
        ({"data_parallel_size": 2}, "'roles.teacher.args.data_parallel_size' is 2"),
        ({"tensor_parallel_size": 2, "data_parallel_size": 1}, None),
    ],
)
def test_parallel_sizes(model: Path, args: dict[str, int], message: str | None) -> None:
    found = mistakes(settings(model, roles={"teacher": {"model": str(model), "args": args}}))
    assert (found == []) if message is None else any(message in line for line in found), found


SYSTEM = {**TASK, "system": "You are brief."}
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
ASKS = "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.mark.parametrize(
    ("template", "task", "message"),
    [
        (REFUSES + PLAIN + ASKS, SYSTEM, "refuses turns of system, user: System role not supported"),
        (REFUSES + PLAIN + ASKS, None, None),
        (PLAIN + "{% if add_generation_prompt %}<assistant><think>{% endif %}", None, "differently in training"),
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", SYSTEM, None),
        ("{% for m in messages %}{{ m.nothing.at_all }}{% endfor %}", None, "refuses turns of user: "),
        ("{% for m in messages", None, "refuses turns of user: "),
    ],
)
def test_chat_templates(
    model: Path, tiny_model: Path, template: str, task: dict[str, Any] | None, message: str | None
) -> None:
    (model / "chat_template.jinja").write_text(template)
    roles = {"teacher": {"model": str(tiny_model)}}
    found = mistakes(settings(model, roles=roles, task=task or TASK))
    assert (found == []) if message is None else any(message in line for line in found), found


def chat_task(folder: Path, *extra: dict[str, Any]) -> dict[str, Any]:
    """A task of conversations: twenty plain ones, and then those given, in one file."""
    plain = [
        [{"role": "user", "content": f"{n} + {n + 1}?"}, {"role": "assistant", "content": "odd"}] for n in range(20)
    ]
    lines = [json.dumps({"messages": one}) for one in plain] + [json.dumps(one) for one in extra]
    (folder / "chats.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return {"name": "jsonl", "path": str(folder), "train": "chats.jsonl", "scorer": "exact"}


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ("chatml", {}, None),
        ("no end", {}, None),
        ("dated", {}, None),
        ("thinks", {}, "learned as '<think>\\n\\n</think>\\n\\nodd', which the task's scorer calls wrong"),
        ("thinks", {}, "Set `student.chat_template_kwargs: {enable_thinking: false}`."),
        ("thinks", {"enable_thinking": False}, None),
        ("channel", {}, "learned as 'finalodd', which the task's scorer calls wrong"),
        ("channel", {}, "Change the template, so that it writes nothing around"),
    ],
)
def test_a_completion_is_scored_as_it_is_learned(
    model: Path, tiny_model: Path, tmp_path: Path, shape: str, kwargs: dict[str, Any], message: str | None
) -> None:
    student = {"model": str(put_on(model, SHAPES[shape])), "chat_template_kwargs": kwargs}
    roles = {"teacher": {"model": str(tiny_model)}}
    found = mistakes(settings(model, student=student, roles=roles, task=chat_task(tmp_path)))
    assert (found == []) if message is None else any(message in line for line in found), found


@pytest.mark.parametrize(
    ("shape", "first", "message"),
    [
        ("thinks", "developer", "line 21: The chat template of "),
        ("thinks", "developer", "drops the developer turn"),
        ("thinks", "system", None),
        ("no system", "system", "line 21: the chat template refuses turns of system, user: System role not supported"),
        ("no system", "assistant", "line 21: the chat template refuses turns of assistant, user: Roles must alternate"),
    ],
)
def test_a_row_with_turns_that_the_template_refuses_or_drops(
    model: Path, tiny_model: Path, tmp_path: Path, shape: str, first: str, message: str | None
) -> None:
    turns = [(first, "Be brief."), ("user", "2 + 2?"), ("assistant", "even")]
    task = chat_task(tmp_path, {"messages": [{"role": role, "content": content} for role, content in turns]})
    kwargs = {"enable_thinking": False}
    student = {"model": str(put_on(model, SHAPES[shape])), "chat_template_kwargs": kwargs}
    found = mistakes(settings(model, student=student, roles={"teacher": {"model": str(tiny_model)}}, task=task))
    assert (found == []) if message is None else any(message in line for line in found), found


def vocabulary_of(model: Path, size: int) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": size}))


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ("chatml", 322, None),
        ("chatml", 321, "has the token '<|im_end|>' with the id 321, and the vocabulary of the model ends before it"),
        ("no end", 320, "has the token '<|endoftext|>' with the id 320"),
        ("chatml", 200, "vocab_size 200 in"),
    ],
)
def test_a_tokenizer_larger_than_the_vocabulary(
    model: Path, tiny_model: Path, shape: str, size: int, message: str | None
) -> None:
    vocabulary_of(put_on(model, SHAPES[shape]), size)
    found = mistakes(settings(model, roles={"teacher": {"model": str(tiny_model)}}))
    assert (found == []) if message is None else any(message in line for line in found), found


def test_a_token_that_the_model_lacks_is_a_mistake_where_a_row_holds_it(
    model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(SHAPES["chatml"])
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(model)
    vocabulary_of(model, 322)
    given = settings(model, roles={"teacher": {"model": str(tiny_model)}}, task=chat_task(tmp_path))
    told = str(check_config(parse(Config, given, "c.yaml"), "c.yaml"))
    assert "student: the model has no embedding for 1 tokens of its tokenizer ('<image>')" in told
    row = {"messages": [{"role": "user", "content": "What is in <image>?"}, {"role": "assistant", "content": "odd"}]}
    found = mistakes(given | {"task": chat_task(tmp_path, row)})
    assert any(
        "chats.jsonl, line 21: the tokenizer in" in line and "'<image>' with the id 322" in line for line in found
    )


def test_a_file_of_training_rows_is_held_against_the_vocabulary_too(model: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(SHAPES["chatml"])
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(model)
    vocabulary_of(model, 322)
    job, data = parse(TrainJob, {"student": {"model": str(model)}}, "t.yaml"), tmp_path / "rows.jsonl"
    lines = ['{"prompt": "What is it?", "completion": "odd"}', '{"prompt": "What is it?", "completion": "<image>"}']
    data.write_text(lines[0])
    assert any("1 trained on" in line for line in preview(job, data))
    data.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"rows, line 2: the tokenizer in .* has the token '<image>' with the id 322"):
        list(preview(job, data))


def test_the_clock_stands_still_while_templates_are_looked_at(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_shown", [])
    template = model / "chat_template.jinja"
    template.write_text("{{ strftime_now('%H:%M:%S.%f') }} " + template.read_text())
    assert mistakes(settings(model)) == []
    assert chat_template._shown == []


def test_a_prompt_of_a_recipe_that_the_teachers_template_refuses(model: Path, tmp_path: Path) -> None:
    teacher = Path(shutil.copytree(model, tmp_path / "teacher"))
    (teacher / "chat_template.jinja").write_text(REFUSES + PLAIN + ASKS)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "solve.jinja").write_text("[system]\nBe exact.\n[user]\n{{ problem }}")
    generate = {"recipes": [{"name": "repair"}], "prompts": str(tmp_path / "prompts")}
    found = mistakes(settings(model, generate=generate, roles={"teacher": {"model": str(teacher)}}))
    assert any("'roles.teacher', asked by a recipe: " in line and "System role not" in line for line in found), found


def test_a_file_of_a_model_folder_that_is_no_json(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{")
    (model / "chat_template.jinja").unlink(missing_ok=True)
    assert any("tokenizer_config.json is not JSON" in line for line in mistakes(settings(model)))


def test_it_prints_what_it_found(model: Path, tmp_path: Path) -> None:
    task = user_task(tmp_path, [f'{{"input": "what is {n}", "output": "{n % 3}"}}' for n in range(40)])
    task = {**task, "scorer": "choice", "labels": ["0", "1", "2", "me"]}
    text = str(check_config(parse(Config, settings(model, task=task), "c.yaml"), "c.yaml"))
    assert "rows            train 28, probe 6, gate 6, test 1\n" in text
    assert "labels          0 14, 1 13, 2 13, me 1\n" in text
    assert "  first row       prompt '<|user|>\\nwhat is " in text
    assert "                  completion '" in text
    assert "of a context of 512" in text
    assert "512 seeds, about" in text
    assert "training        12 to 204 steps" in text
    assert f"student: {model}" in text


def test_the_folder_of_a_data_set_is_read_as_files_are(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    task = {"name": "jsonl", "dataset": str(folder), "scorer": "exact"}
    lines = ["input,output", *(f"problem {number} of {number},0{number}" for number in range(60))]
    (folder / "test.csv").write_text("\n".join(lines[:1] + lines[41:]))
    (folder / "train.csv").write_text("\n".join(lines[:41]))
    assert mistakes(settings(model, task=task, splits={"near_duplicate": 1.0})) == []
    (folder / "train.csv").write_text("\n".join([*lines[:41], "a problem,its answer,more"]))
    assert any("train.csv, line 42: " in one for one in mistakes(settings(model, task=task)))
    gone = {**task, "dataset": str(tmp_path / "gone")}
    assert any("gone' cannot be loaded" in one for one in mistakes(settings(model, task=gone)))


def test_what_was_not_looked_at_is_said(model: Path) -> None:
    given = settings(model, student={"model": "some/student"}, task={"name": "gsm8k", "dataset": "some/data"})
    text = str(check_config(parse(Config, given, "c.yaml"), "c.yaml"))
    assert "the rows of the hub's data set some/data" in text
    assert "on the Hugging Face hub: some/student, some/data. `synthloop check --online` asks it" in text


def test_the_base_dependencies_are_enough() -> None:
    command = [sys.executable, "-m", "tests.base_dependencies", "check", "configs/quickstart.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "names and values of settings of peft, trl, vllm: not installed here" in done.stdout
    assert "the package tokenizers is not installed here" in done.stdout
    assert done.stdout.endswith("configs/quickstart.yaml: ok\n")


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


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("where", "override"),
    [
        ("roles.teacher.base_urls.0", f"roles.teacher.base_urls=['http://u:{SECRET}@h/v1']"),
        ("roles.teacher.base_urls.0", f"roles.teacher.base_urls=['http://h/v1?api_key={SECRET}']"),
        ("roles.teacher.api_key", f"roles.teacher.api_key={SECRET}"),
        ("student.args.hf_token", f"student.args.hf_token={SECRET}"),
        ("train.args.hub_token", f"train.args.hub_token={SECRET}"),
    ],
)
def test_a_secret_is_one_line_that_does_not_show_it(where: str, override: str, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(settings(model)), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        check_file(config, [override])
    (line,) = str(refused.value).splitlines()
    assert where in line
    assert SECRET not in line


@pytest.mark.parametrize("scorer", ["exact", "exakt"])
def test_every_file_of_the_task_that_is_not_there_is_named(scorer: str, model: Path) -> None:
    task = {"name": "jsonl", "scorer": scorer, "train": "nope.jsonl", "validation": ["no1", "no2"], "test": "no3"}
    found = "\n".join(mistakes(settings(model, task=task)))
    assert all(found.count(f"no such file {name}.") == 1 for name in ("nope.jsonl", "no1", "no2", "no3")), found
    assert ("unknown scorer" in found) == (scorer == "exakt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("def (", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("Config = 5\ndef run(): ...", "no class of pydantic's BaseModel"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_its_error(
    source: str, message: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_bad").mkdir()
    (tmp_path / "own_bad" / "recipe.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_bad.recipe", raising=False)
    monkeypatch.delitem(sys.modules, "own_bad", raising=False)
    (line,) = mistakes(settings(model, generate={"recipes": [{"name": "own_bad.recipe"}]}))
    assert "own_bad.recipe" in line
    assert message in line


def test_rows_that_the_task_leaves_out_are_told_by_check_and_kept_in_the_record(model: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"input": f"what is {n} and {n * n}", "output": f"{n}"}) for n in range(40)]
    task = user_task(tmp_path, [*rows, '{"input": "who", "output": ""}'])
    config = parse(Config, settings(model, task=task), "c.yaml")
    told = "task: 'train': 1 row is left out: 1 with an empty answer (first "
    assert told in str(check_config(config, "c.yaml"))
    assert prepare(config, tmp_path / "run")["warnings"][0].startswith(told)
