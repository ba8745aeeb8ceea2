"""The hostile program that `generate.sandbox.require` runs in the sandbox: prints every guarantee that does not hold.

Reads a JSON object from stdin: `port` and `file` are a TCP server and a file of the machine outside, the rest are the
limits it should meet.
"""

import ctypes
import functools
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator

CLONE_NEWUSER, SYS_CLONE3, MNT_DETACH, AF_VSOCK = 0x10000000, 435, 2, 40

KNOWN_VARIABLES = {"HOME", "TMPDIR", "PATH", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "PYTHONUTF8", "LC_CTYPE"}


def can(action: Callable[[], object]) -> bool:
    try:
        action()
    except (OSError, MemoryError):
        return False
    return True


def write(path: str, size: int) -> None:
    with open(path, "wb") as file:
        file.write(bytes(size))


def num_forks(most: int) -> int:
    """How many children can be alive at once; each sleeps until this process ends the pipe it reads."""
    wait, go = os.pipe()
    for count in range(most):
        try:
            pid = os.fork()
        except OSError:
            return count
        if pid == 0:
            os.close(go)
            os.read(wait, 1)
            os._exit(0)
    return most


def enter_user_namespace() -> None:
    """Start a child in a user namespace of its own, where it would have every capability."""
    arguments = struct.pack("8Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = ctypes.CDLL(None).syscall(SYS_CLONE3, arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    if pid == -1:
        raise OSError("denied")


def broken(job: dict[str, int], file: str) -> Iterator[str]:
    libc = ctypes.CDLL(None)
    if can(lambda: socket.create_connection(("127.0.0.1", job["port"]), timeout=1)):
        yield "the network of the machine can be reached"
    if can(lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM)):
        yield "a channel to the host of this virtual machine can be opened"
    if os.path.exists(file) or os.path.exists("/proc/self") or os.listdir("/scratch") != ["main.py"]:
        yield "files of the machine can be seen"
    if any(not os.statvfs(path).f_flag & os.ST_RDONLY for path in ("/", "/dev/null", "/python/lib")):
        yield "files can be written outside of the scratch folder"
    if all(can(functools.partial(write, f"/scratch/{i}", job["scratch_mb"] * 2**19)) for i in range(3)):
        yield "the size of the scratch folder is not limited"
    if set(os.environ) - KNOWN_VARIABLES:
        yield "the environment can be read"
    if os.getppid() != 1 or os.getsid(0) != os.getpid():
        yield "processes of the machine can be signalled"
    if can(enter_user_namespace) or 0 in (libc.umount2(b"/python/lib", MNT_DETACH), libc.chroot(b"/")):
        yield "privileges can be used or gained"
    if can(lambda: bytearray(job["memory_mb"] * 2**20)) or can(lambda: os.memfd_create("probe")):
        yield "memory is not limited"
    if resource.getrlimit(resource.RLIMIT_CPU) != (job["cpu_s"], job["cpu_s"] + 1):
        yield "CPU time is not limited"
    if num_forks(2 * job["num_processes"]) != job["num_processes"] - 1:
        yield "the number of processes is not limited as asked"


if __name__ == "__main__":
    settings = json.load(sys.stdin)
    print(*broken(settings, settings.pop("file")), sep="; ")
