"""Files of the usual formats: what the student would be trained on is shown, and right; what can't be is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest

from generate.leaves import read_leaves
from synthloop.chat import load_tokenizer
from synthloop.config import TrainJob, parse
from synthloop.errors import UserError
from synthloop.task import open_task
from tests.real_data import real_data
from tests.train.jobs import write_job
from train.objectives import sft
from train.preview import preview
from train.sources import real_row

TASK_FILES = {
    "sms_spam": "ham\tSee you at five.\nspam\tYou have won!!\n",
    "fasttext": "__label__tea Green or black?\n__label__coffee With milk?\n",
}


def turns(*pairs: tuple[str, str], **keys: Any) -> list[dict[str, Any]]:
    """Turns of (role, text); `keys` stand in the last one."""
    many: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in pairs]
    return [*many[:-1], many[-1] | keys]


def text(*pairs: tuple[str, str]) -> str:
    """What the tokenizer of the tests renders before a reply."""
    return "".join(f"<|{role}|>\n{said}<|end|>\n" for role, said in pairs) + "<|assistant|>\n"


ASKED, TOLD = ("user", "Which bird can't fly?"), ("assistant", "The kiwi.")
PLAIN = {"prompt": text(ASKED), "completion": "The kiwi.<|end|>\n"}
PAIR = {"prompt": text(ASKED), "chosen": "The kiwi.<|end|>\n", "rejected": "The swift.<|end|>\n"}
WORSE = ("assistant", "The swift.")
BRIEF = ("system", "Be brief.")
SHAREGPT = [{"from": "human", "value": ASKED[1]}, {"from": "gpt", "value": TOLD[1]}]

LEARNED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "openai": ({"messages": turns(ASKED, TOLD)}, PLAIN),
    "openai_weight": (
        {"messages": [*turns(ASKED, WORSE, weight=0), *turns(("user", "Sure?"), TOLD, weight=1)]},
        {**PLAIN, "prompt": text(ASKED, WORSE, ("user", "Sure?"))},
    ),
    "openai_without_user": ({"messages": turns(BRIEF, TOLD)}, {**PLAIN, "prompt": text(BRIEF)}),
    "alpaca": (
        {"instruction": "Name a bird.", "input": "It can't fly.", "output": "The kiwi."},
        {**PLAIN, "prompt": text(("user", "Name a bird.\n\nIt can't fly."))},
    ),
    "sharegpt": ({"id": "0_1", "conversations": SHAREGPT}, PLAIN),
    "prompt_completion": ({"prompt": ASKED[1], "completion": TOLD[1]}, PLAIN),
    "trl_conversational": ({"prompt": turns(BRIEF, ASKED), "completion": turns(TOLD)}, {
        **PLAIN, "prompt": text(BRIEF, ASKED)
    }),
    "kto_true": ({"prompt": turns(ASKED), "completion": turns(TOLD), "label": True}, PLAIN),
    "tulu_smoltalk": ({"id": "ai2/0", "messages": turns(ASKED, TOLD), "source": "ai2/birds"}, PLAIN),
    "oumi": ({"messages": turns(ASKED, TOLD, id=None), "metadata": {"topic": "birds"}}, PLAIN),
    "dolly": ({"instruction": ASKED[1], "context": "", "response": TOLD[1], "category": "open_qa"}, PLAIN),
    "nemo_skills": ({"problem_id": 7, "question": ASKED[1], "answer": TOLD[1], "source": "stem"}, PLAIN),
    "kiln": ({"input": ASKED[1], "output": TOLD[1], "rating": None, "tags": ["a"]}, PLAIN),
}  # fmt: skip

PREFERRED: dict[str, dict[str, Any]] = {
    "trl_explicit": {"prompt": turns(ASKED), "chosen": turns(TOLD), "rejected": turns(WORSE)},
    "trl_implicit": {"chosen": turns(ASKED, TOLD), "rejected": turns(ASKED, WORSE)},
    "ultrafeedback": {
        "prompt": ASKED[1], "prompt_id": "x", "messages": turns(ASKED, TOLD), "score_chosen": 8.0,
        "chosen": turns(ASKED, TOLD), "rejected": turns(ASKED, WORSE), "score_rejected": 3.0,
    },
    "llama_factory": {
        "conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": WORSE[1]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def job(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job") / "job.yaml", tiny_model)


def look(model: Path, path: Path, *lines: dict[str, Any], objective: str = "sft") -> list[str]:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"student": {"model": str(model)}, "train": {"objective": objective, "args": {"max_length": None}}}
    return list(preview(parse(TrainJob, settings, "job"), path))


def rows_shown(lines: list[str]) -> list[dict[str, str]]:
    """The rows that a preview shows, as they were."""
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        if line.startswith("row "):
            place, name, said = line.removeprefix("row ").replace(": ", ", ", 1).split(", ", 2)
            rows.setdefault(place, {})[name] = literal_eval(said)
    return list(rows.values())


@pytest.mark.parametrize("name", LEARNED)
def test_a_row_of_the_format_is_learned(tiny_model: Path, tmp_path: Path, name: str) -> None:
    line, expected = LEARNED[name]
    lines = look(tiny_model, tmp_path / "rows.jsonl", line, line)
    assert lines[0] == "rows: 2 read, 2 trained on by objective sft"
    assert rows_shown(lines) == [expected, expected]


@pytest.mark.parametrize("name", PREFERRED)
def test_a_pair_of_the_format_is_learned(tiny_model: Path, tmp_path: Path, name: str) -> None:
    lines = look(tiny_model, tmp_path / "pairs.jsonl", PREFERRED[name], objective="dpo")
    assert rows_shown(lines) == [PAIR]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            {"prompt": turns(ASKED), "completion": turns(TOLD), "label": False},
            "1 with an answer that `label` calls bad",
        ),
        ({"messages": turns(ASKED, TOLD, weight=0)}, "1 with an answer that is marked as not to be learned"),
        ({"messages": turns(ASKED, ("assistant", ""))}, "1 with an empty answer"),
        ({"instruction": "", "input": "", "output": "The kiwi."}, "1 with an empty problem"),
    ],
)
def test_a_row_that_teaches_nothing_is_shown_to_be_left_out(
    tiny_model: Path, tmp_path: Path, line: dict[str, Any], told: str
) -> None:
    good = {"messages": turns(ASKED, TOLD), "topic": "birds"}
    lines = look(tiny_model, tmp_path / "rows.jsonl", line, good)
    assert lines[:2] == ["rows: 2 read, 1 trained on by objective sft", f"left out: 1 row is left out: {told}" + (
        "" if "marked" not in told else " (`weight` 0 or `train` false)"
    ) + f" (first {tmp_path / 'rows.jsonl'}, line 1)"]  # fmt: skip
    assert lines[2] == "not read: 'topic' in 1 of 1 rows"
    assert rows_shown(lines) == [PLAIN]


@pytest.mark.parametrize(
    "line",
    [
        {"instruction": "a", "context": "b", "response": "c"},
        {"input": "a", "output": "b", "rating": {"type": "five_star", "value": 2.0}},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"messages": turns(ASKED, TOLD, tool_calls=[{"function": {"name": "look"}}])},
        {"messages": turns(ASKED, TOLD), "tools": [{"name": "look"}]},
    ],
)
def test_what_would_be_trained_as_something_else_is_refused(
    tiny_model: Path, tmp_path: Path, line: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="rows.jsonl, line 1"):
        look(tiny_model, tmp_path / "rows.jsonl", line)


def learned(model: Path, examples: list[Any]) -> dict[str, str]:
    """The first example of a task as the loop would train on it."""
    config = sft.Config(model=str(model))
    args = type("Args", (), {"max_length": None, "packing": False, "truncation_mode": "keep_start"})
    args.completion_only_loss = True  # type: ignore[attr-defined]
    tokenizer = load_tokenizer(str(model))
    columns, _ = sft.prepare(config, tokenizer, args, [real_row(examples[0])])
    return sft.show(tokenizer, columns, 0)


@pytest.mark.parametrize(
    ("name", "settings", "prompt", "completion"),
    [
        ("sms_spam", {"format": "tsv", "text": 1, "label": 0}, "See you at five.", "ham"),
        ("fasttext", {"format": "label_text", "label_map": {"__label__tea": "tea"}}, "Green or black?", "tea"),
    ],
)
def test_tables_of_labels(
    tiny_model: Path, tmp_path: Path, name: str, settings: dict[str, Any], prompt: str, completion: str
) -> None:
    (tmp_path / "t").write_text(TASK_FILES[name])
    task = open_task("classification", {"path": tmp_path, "train": "t", "prompt": "{{ input }}", **settings})
    shown = learned(tiny_model, list(task.load("train")))
    assert shown == {"prompt": text(("user", prompt)), "completion": f"{completion}<|end|>\n"}


@pytest.mark.real_data
def test_published_files_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    """Grade-school maths by its field names, a model's answers in a JSON list, and a leaf of a taxonomy."""
    first = json.loads((real_data("gsm8k") / "test.jsonl").read_text().splitlines()[0])
    expected = {"prompt": text(("user", first["question"])), "completion": f"{first['answer']}<|end|>\n"}
    lines = look(tiny_model, tmp_path / "rows.jsonl", first)
    settings = {"path": real_data("gsm8k"), "train": "test.jsonl", "output": "answer", "scorer": "numeric"}
    assert learned(tiny_model, list(open_task("jsonl", settings).load("train"))) == expected
    assert "rows: 1 read, 1 trained on" in lines[0]

    answers = json.loads((real_data("alpaca_eval") / "model_outputs.json").read_text())[:50]
    lines = look(tiny_model, tmp_path / "rows.jsonl", *answers)
    assert lines[0] == "rows: 50 read, 50 trained on by objective sft"
    assert answers[0]["instruction"][:40] in lines[-6]
    assert any(line.startswith("not read: 'dataset' in 50, 'generator' in 50 of 50") for line in lines)

    leaf = read_leaves(real_data("instructlab_taxonomy"), ("foundational_skills",))[0]
    lines = look(tiny_model, tmp_path / "rows.jsonl", {"question": "Which?", "answer": leaf.shots[0].answer})
    assert leaf.shots[0].answer[:40].splitlines()[0] in lines[-1]


def test_the_command_shows_the_rows_and_loads_no_model(job: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": turns(ASKED, TOLD), "topic": "birds"}) + "\n")
    command = [str(Path(sys.executable).with_name("synthloop")), "check", str(job), "--data", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "row 1, completion: 'The kiwi.<|end|>\\n'" in done.stdout
    assert done.stdout.endswith(f"{path}: ok\n")
    path.write_text(json.dumps({"messages": turns(ASKED, TOLD), "rating": 1}) + "\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "line 1: 'rating' is 1" in done.stderr
