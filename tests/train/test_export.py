"""Export: the adapter as it is, or merged, with where it comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from synthloop.card import adapter_usage
from synthloop.chat import load_tokenizer
from synthloop.errors import StageFailed, UserError
from synthloop.loop import keep_best
from synthloop.store import Run, read_json, write_json
from tests.shapes import SHAPES, put_on
from tests.train.jobs import train
from tests.train.test_mix_stage import make_run
from train import export as export_module
from train.ends import write_ends
from train.export import export


def make_trained_run(root: Path, model: Path, **lora: Any) -> Run:
    """A run whose round 1 trained an adapter and was accepted."""
    run = make_run(root, model, {}, {})
    with run.stage(1, "train").write([]) as out:
        train(model, out.folder, engine="hf", **lora)
    scores = {"metric": "exact_match", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 100}
    with run.stage(1, "eval").write([]) as out:
        write_json(out.folder / "eval" / "scores.json", {"splits": {"gate": scores}})
    with run.stage(1, "decide").write([]) as out:
        write_json(out.folder / "round.json", {"round": 1, "accepted": True, "best_round": 1})
    return run


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    return make_trained_run(tmp_path_factory.mktemp("trained"), tiny_model)


def test_the_adapter_is_copied_with_its_card(trained_run: Run, tmp_path: Path) -> None:
    export(trained_run, None, tmp_path / "out", merge=False)
    adapter = trained_run.round_dir(1) / "adapter" / "adapter_model.safetensors"
    assert (tmp_path / "out" / adapter.name).read_bytes() == adapter.read_bytes()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["round"] == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| gate | exact_match | 0.5000 | 0.4000 to 0.6000 | 100 |" in card


@pytest.mark.parametrize(
    "lora",
    [
        {"init_lora_weights": False},
        {"target_modules": ["q_proj", "embed_tokens"], "lora_alpha": 64},  # the head shares its matrix
        {"modules_to_save": ["embed_tokens"]},
        {"use_dora": True},
    ],
)
def test_the_merged_model_answers_as_the_adapter_does(tiny_model: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trained_run = make_trained_run(tmp_path / "run", tiny_model, **lora)
    export(trained_run, None, tmp_path / "out", merge=True)
    ids = torch.tensor([load_tokenizer(str(tmp_path / "out"))("Tom has 3 apples")["input_ids"]])
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        untouched = base(ids).logits
        adapted = PeftModel.from_pretrained(base, trained_run.round_dir(1) / "adapter")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(merged, untouched, atol=1e-2)


def test_users_of_what_is_exported_stop_where_the_template_ends_a_turn(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = put_on(Path(shutil.copytree(tiny_model, tmp_path / "model")), SHAPES["chatml"])
    run = make_trained_run(tmp_path / "run", model)
    tokenizer = load_tokenizer(str(model))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    export(run, 1, tmp_path / "merged", merge=True)
    assert GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id == [tokenizer.eos_token_id, end]

    adapter = run.adapter(1)
    assert adapter is not None
    write_ends(AutoModelForCausalLM.from_pretrained(model), tokenizer, {}, adapter)
    assert GenerationConfig.from_pretrained(adapter).eos_token_id == [tokenizer.eos_token_id, end]
    card = "\n".join(adapter_usage(str(model), adapter))
    assert "model.generation_config = GenerationConfig.from_pretrained(" in card
    assert "--generation-config path/to/this/folder" in card


def test_a_model_that_stops_there_by_itself_is_left_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_ends(AutoModelForCausalLM.from_pretrained(tiny_model), load_tokenizer(str(tiny_model)), {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_merged_model_that_is_another_one_is_not_written(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was with an adapter on embeddings that share their matrix with the head."""
    run = make_trained_run(
        tmp_path / "run", Path(trained_run.config.student.model), target_modules=["embed_tokens"], lora_alpha=64
    )
    monkeypatch.setattr(export_module, "untie", lambda model: None)
    with pytest.raises(StageFailed, match="The merged model is not the student with its adapter"):
        export(run, None, tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_nothing_invented(trained_run: Run, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(UserError, match="holds other files"):
        export(trained_run, None, tmp_path / "used", merge=False)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").touch()
    export(trained_run, None, tmp_path / "out", merge=False)
    assert (tmp_path / "out.partial" / "mine").exists()
    assert {path.name for path in tmp_path.iterdir()} >= {"out", "out.partial", "used"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(UserError, match="round 7 was not trained"):
        export(trained_run, 7, tmp_path / "out", merge=False)
    with pytest.raises(UserError, match="no round was accepted"):
        export(make_run(tmp_path / "new", tiny_model, {}), None, tmp_path / "out", merge=False)


def test_the_card_says_what_was_gained_and_how_to_load_it(trained_run: Run, tiny_model: Path, tmp_path: Path) -> None:
    paired = {"gain": 0.2, "ci_low": 0.1, "ci_high": 0.3}
    splits = {"gate": {"metric": "exact_match", "value": 0.3, "ci_low": 0.2, "ci_high": 0.4, "n": 100}}
    scores = read_json(trained_run.round_dir(1) / "eval" / "scores.json")
    for number, facts in ((0, {"splits": splits}), (1, {**scores, "paired_baseline": {"gate": paired}})):
        stage = trained_run.stage(number, "eval")
        stage.forget()
        with stage.write([]) as out:
            write_json(out.folder / "eval" / "scores.json", facts)
    export(trained_run, None, tmp_path / "out", merge=False)
    keep_best(trained_run, 1)
    base = str(tiny_model.resolve())
    for folder in (tmp_path / "out", trained_run.root / "best_adapter"):
        card = (folder / "README.md").read_text()
        assert "| 100 | 0.3000 | +0.2000, +0.1000 to +0.3000 |" in card
        assert f"base_model: {base}" in card
        assert f"vllm serve {base} --enable-lora --max-lora-rank 8 --lora-modules adapter=path/to/this/folder" in card
        assert "AutoPeftModelForCausalLM.from_pretrained" in card
        assert "More Information Needed" not in card
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    export(trained_run, None, tmp_path / "merged", merge=True)
    assert "vllm serve path/to/this/folder\n" in (tmp_path / "merged" / "README.md").read_text()


def test_an_exported_adapter_loads_from_any_directory(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM

    export(trained_run, None, tmp_path / "out", merge=False)
    monkeypatch.chdir(tmp_path)
    assert AutoPeftModelForCausalLM.from_pretrained("out").peft_config
