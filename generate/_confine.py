"""The program that locks itself in and then runs model-written Python; `generate.sandbox` starts it and reads it.

    python -I -S generate/_confine.py REPORT_FD < job.json

It uses the standard library only, as it starts once per run. Three processes, from the outside in:

    warden    in the caller's view of the machine, in a new user namespace: enforces wall time and total memory, and
              kills on SIGTERM
    init      process 1 of a new pid namespace, without network and with an empty root: when it ends, the kernel kills
              whatever else is left in there, daemons included
    program   `python main.py` in /scratch, as a user without any privilege, under resource limits

What each guarantee rests on:

    network         an empty network namespace; of socket families, seccomp allows Unix and IP only (AF_VSOCK, the
                    channel from a virtual machine to its host, is outside of network namespaces)
    files           pivot_root into an empty tmpfs that holds the Python installation and the system's shared libraries,
                    read-only, and /scratch, a tmpfs of bounded size; there is no /proc and no /sys. Libraries are shown
                    as folders: other things that packages keep in there can be read (without Debian's layout, all of
                    /usr/lib)
    privileges      no capabilities, no_new_privs; no way to a nested user namespace, since the kernel refuses one to
                    a process whose root is not the root of its mount namespace (chroot)
    processes       RLIMIT_NPROC, counted per user and user namespace since Linux 5.14. It does not bind root, so root
                    runs the program as `nobody`
    memory          RLIMIT_AS for each process; the warden adds up what is resident in all of them. Seccomp denies what
                    neither counts (memfd, System V shared memory and queues)

Lines of the report: `ready`, `exit CODE CPU_SECONDS`, `limit NAME`, `error TEXT`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import json
import os
import platform
import resource
import signal
import struct
import sys
import time
from typing import Any, NoReturn

NOBODY = 65534
"""The user and group inside; where root starts the sandbox, outside too."""
POLL_S = 0.05
"""How often total memory is added up (chosen, not measured)."""
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
"""Where shared libraries lie; of one with a folder for this kind of machine (Debian's layout) only that is shown."""
INTERPRETER = f"/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
LINKS = {
    "/python/bin/python": INTERPRETER,
    "/python/bin/python3": INTERPRETER,
    "/tmp": "/scratch",
    "/dev/shm": "/scratch",
}
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
ENVIRONMENT = {
    "HOME": "/scratch",
    "TMPDIR": "/scratch",
    "PATH": "/python/bin",
    "LD_LIBRARY_PATH": "/python/lib",  # where libpython lies, for an interpreter built with --enable-shared
    "PYTHONHASHSEED": "0",  # sets print in the same order in every run
    "PYTHONUTF8": "1",
}
NAMESPACES = 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
"""CLONE_NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP of <linux/sched.h>."""
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
CAPABILITY_VERSION_3 = 0x20080522
ADDR_NO_RANDOMIZE = 0x0040000

MACHINES = ("x86_64", "aarch64")
DENIED = {
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "perf_event_open": (298, 241),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "pidfd_getfd": (438, 438),
    "memfd_secret": (447, 447),
}
"""The number of each system call on each of `MACHINES`."""
SOCKET = (41, 198)
AUDIT_ARCH = (0xC000003E, 0xC00000B7)  # of <linux/audit.h>
X32 = 0x40000000  # marks the second numbering of system calls on x86_64

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    report = int(sys.argv[1])
    os.set_inheritable(report, False)  # the program gets 0, 1 and 2 alone
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    job = json.load(sys.stdin)
    try:
        enter_namespaces()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        init = os.fork()
    except OSError as error:
        tell(report, f"error {error}")
        return
    if init == 0:
        run_init(job, report)
    limit = watch(init, job["wall_s"], job["memory_mb"])
    if limit:
        tell(report, f"limit {limit}")


def call(name: str, *arguments: Any) -> None:
    """A function of the C library. Raises `OSError` with its name."""
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    if getattr(libc, name)(*values) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def tell(report: int, line: str) -> None:
    os.write(report, f"{line}\n".encode())


def enter_namespaces() -> None:
    """Move into a new user namespace, and the children to come into the other new namespaces.

    Root maps two users, itself for setting up and `nobody` for the program, which only a process outside can do. Anyone
    else may map one user, themselves.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        with contextlib.suppress(PermissionError):
            os.setgroups([])
    wait, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        os.read(wait, 1)
        try:
            write_maps(os.getppid(), f"0 {uid} 1\n{NOBODY} {NOBODY} 1", f"0 {gid} 1\n{NOBODY} {NOBODY} 1")
        except OSError:
            os._exit(1)
        os._exit(0)
    call("unshare", NAMESPACES)
    os.close(go)
    if os.waitpid(helper, 0)[1] != 0:
        write("/proc/self/setgroups", "deny")
        write_maps(os.getpid(), f"{NOBODY} {uid} 1", f"{NOBODY} {gid} 1")
    write("/proc/self/oom_score_adj", "1000")


def write_maps(pid: int, uids: str, gids: str) -> None:
    write(f"/proc/{pid}/uid_map", uids)
    write(f"/proc/{pid}/gid_map", gids)


def write(path: str, text: str) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


def watch(init: int, wall_s: float, memory_mb: int) -> str:
    """Wait until everything inside is dead; the limit that killed it, or an empty text."""
    deadline = time.monotonic() + wall_s
    while True:
        left = max(0.0, deadline - time.monotonic())
        caught = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, min(POLL_S, left))
        if os.waitpid(init, os.WNOHANG)[0]:
            return ""
        if caught is not None and caught.si_signo == signal.SIGTERM:
            limit = "output"
        elif time.monotonic() >= deadline:
            limit = "wall"
        elif resident_kb(init) > memory_mb * 1024:
            limit = "memory"
        else:
            continue
        os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        return limit


def resident_kb(pid: int) -> int:
    """Resident memory of a process and its descendants; what n of them share counts 1/n in each (Pss)."""
    total, children = 0, []
    with contextlib.suppress(OSError):  # it ended meanwhile; or it is init, which cannot be read and holds nothing
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children += file.read().split()
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total = next((int(line.split()[1]) for line in file if line.startswith("Pss:")), 0)
    return total + sum(resident_kb(int(child)) for child in children)


def run_init(job: dict[str, Any], report: int) -> NoReturn:
    """Set up as process 1, start the program, reap until it ends, tell how."""
    try:
        shared_user = os.getuid() == NOBODY
        os.setsid()
        os.umask(0o022)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the kernel shields process 1 from signals it does not handle
        build_root(job["python"], job["scratch_mb"])
        drop_privileges()
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        tell(report, "ready")  # fails where the caller is already dead
        try:
            stdin = write_files(job["files"], job["stdin"])
        except OSError:
            tell(report, "limit scratch")
            os._exit(0)
        program = os.fork()
        if program == 0:
            execute(job, stdin, num_others=2 if shared_user else 1)
        pid = 0
        while pid != program:
            pid, status, usage = os.wait4(-1, 0)
        tell(report, f"exit {os.waitstatus_to_exitcode(status)} {usage.ru_utime + usage.ru_stime:.3f}")
    except OSError as error:
        tell(report, f"error {error}")
    finally:
        os._exit(0)


def build_root(python: str, scratch_mb: int) -> None:
    """Make `/` an empty tree with the Python installation at /python, shared libraries, three devices and /scratch."""
    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    sources = {path: os.path.realpath(path) for folder in LIBRARIES for path in shared_libraries(folder)}
    sources |= {f"/python/{name}": os.path.realpath(f"{python}/{name}") for name in ("lib", "lib64")}
    sources = {path: source for path, source in sources.items() if os.path.exists(source)}
    sources[INTERPRETER] = os.path.realpath(python + INTERPRETER.removeprefix("/python"))
    call("mount", b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755,size=1m")
    os.mkdir("/tmp/outside")
    call("pivot_root", b"/tmp", b"/tmp/outside")
    os.chdir("/")
    for directory in ("/dev", "/scratch", "/python/bin"):
        os.makedirs(f"/root{directory}")
    for path, source in sources.items():
        bind(source, path, MS_RDONLY | MS_NOSUID | MS_NODEV)
    for path in DEVICES:
        bind(path, path, MS_RDONLY | MS_NOSUID)
    for path, target in LINKS.items():
        os.symlink(target, f"/root/{path}")
    for path in glob.glob("/root/python/lib*/python3*/*-packages"):
        call("mount", b"tmpfs", path.encode(), b"tmpfs", MS_RDONLY, b"size=4k")
    call("umount2", b"/outside", MNT_DETACH)
    set_attributes("/", MS_RDONLY, 0)
    options = f"size={scratch_mb}m,nr_inodes={scratch_mb * 256},mode=755,uid={NOBODY},gid={NOBODY}"
    call("mount", b"tmpfs", b"/root/scratch", b"tmpfs", MS_NOSUID | MS_NODEV, options.encode())
    os.chroot("/root")
    os.chdir("/scratch")
    call("sethostname", b"sandbox", 7)


def shared_libraries(folder: str) -> list[str]:
    """What is shown of a folder of libraries: the part for this kind of machine and the loader, where it has one."""
    part = f"{folder}/{platform.machine()}-linux-gnu"
    return [part, *glob.glob(f"{folder}/ld-linux*")] if os.path.isdir(part) else [folder]


def bind(source: str, path: str, flags: int) -> None:
    """Show a file or folder of the machine inside."""
    source, path = f"/outside{source}", f"/root{path}"
    if os.path.isdir(source):
        os.makedirs(path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, "")
    call("mount", source.encode(), path.encode(), None, MS_BIND | MS_REC, None)
    set_attributes(path, flags, AT_RECURSIVE)


def set_attributes(path: str, flags: int, recursive: int) -> None:
    """Call mount_setattr(2), new in Linux 5.12, to add flags; the first three have the same value as for `mount`."""
    attributes = struct.pack("4Q", flags, 0, 0, 0)
    call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), recursive, attributes, len(attributes))


def drop_privileges() -> None:
    """Become `nobody`, untraceable, for good: no capabilities, none to be gained, no system call of `DENIED`."""
    for capability in range(64):
        with contextlib.suppress(OSError):  # beyond the last one this kernel knows
            call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    if os.getuid() != NOBODY:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    call("capset", struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    rules = seccomp_rules()
    code = ctypes.create_string_buffer(b"".join(rules))
    call("prctl", PR_SET_SECCOMP, 2, struct.pack("HP", len(rules), ctypes.addressof(code)))


def seccomp_rules() -> list[bytes]:
    """A classic BPF program over `struct seccomp_data` (number, architecture, ..., arguments from byte 16 on)."""
    if platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}", "seccomp")
    machine = MACHINES.index(platform.machine())

    def load(offset: int) -> bytes:
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def equal(value: int, then: int, otherwise: int) -> bytes:
        return struct.pack("HBBI", 0x15, then, otherwise, value)

    allow, deny, kill = (struct.pack("HBBI", 0x06, 0, 0, v) for v in (0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000))
    rules = [load(4), equal(AUDIT_ARCH[machine], 1, 0), kill, load(0), struct.pack("HBBI", 0x35, 0, 1, X32), kill]
    for numbers in DENIED.values():
        rules += [equal(numbers[machine], 0, 1), deny]
    families = [load(16), equal(1, 2, 0), equal(2, 1, 0), equal(10, 0, 1)]  # AF_UNIX, AF_INET, AF_INET6
    return [*rules, equal(SOCKET[machine], 0, len(families)), *families, allow, deny]


def write_files(files: dict[str, str], stdin: str) -> int:
    """Fill /scratch. Returns a descriptor that reads `stdin`, of a file that has no name any more."""
    for name, text in files.items():
        os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
        write(name, text)
    write(".stdin", stdin)
    descriptor = os.open(".stdin", os.O_RDONLY)
    os.unlink(".stdin")
    return descriptor


def execute(job: dict[str, Any], stdin: int, num_others: int) -> NoReturn:
    """Become the program. `num_others` processes of the same user are ours."""
    os.setsid()  # signals to the own process group reach nobody outside
    os.dup2(stdin, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"] + 1))
    for limit, value in (
        (resource.RLIMIT_NPROC, job["num_processes"] + num_others),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, job["scratch_mb"] * 2**20),
        (resource.RLIMIT_AS, job["memory_mb"] * 2**20),
    ):
        resource.setrlimit(limit, (value, value))
    with contextlib.suppress(OSError):  # the default seccomp profile of Docker denies it: addresses vary there
        call("personality", ADDR_NO_RANDOMIZE)
    os.execve(INTERPRETER, [INTERPRETER, "-s", "-B", "main.py"], ENVIRONMENT)


if __name__ == "__main__":
    main()
