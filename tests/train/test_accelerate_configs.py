"""The shipped accelerate configs are what accelerate reads. Those for GPUs are parsed here, not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "configs" / "accelerate"
EXPECTED = {
    "cpu": "NO",
    "single_gpu": "NO",
    "ddp": "MULTI_GPU",
    "fsdp2": "FSDP",
    "deepspeed_zero3": "DEEPSPEED",
}


def test_every_config_is_expected() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_it(name: str) -> None:
    """accelerate itself refuses unknown keys; the command in the first line names the file."""
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == EXPECTED[name]
    assert bool(config.use_cpu) is (name == "cpu")
    assert path.read_text().startswith(f"# accelerate launch --config_file configs/accelerate/{name}.yaml ")


def test_fsdp2_settings_are_fields_of_its_plugin() -> None:
    """`accelerate launch` takes fsdp_* keys as its own options and drops none silently."""
    from accelerate.commands.launch import launch_command_parser

    options = vars(launch_command_parser().parse_args(["--config_file", "x", "script.py"]))
    for name, section in (("fsdp2", "fsdp_config"), ("deepspeed_zero3", "deepspeed_config")):
        settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())[section]
        assert settings.keys() <= options.keys()
