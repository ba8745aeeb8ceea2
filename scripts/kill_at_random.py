"""Kill the small run of tests/small_run.py at random moments, over and over: does it end as a run never killed?

    python -m scripts.kill_at_random [--kills 100] [--seed 0] [--mean-s 15] [--out FOLDER]

Each SIGKILL hits, by the toss of a coin, the loop itself or one other process of its group, after a wait drawn from an
exponential distribution with a mean of `--mean-s` seconds; then the same command is started again. A run that ends
before all kills are spent is compared, byte by byte and reply by reply, with one that was never killed, and another is
begun; the last one is run to its end. Printed at the end:

    1/train        12 kills
    ...
    40 kills in 3 runs, byte-identical: yes

The exit code is 1 where a run differs, ends with a code that a kill does not explain, or leaves a process behind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import small_run

EXPLAINED = (0, 4, -signal.SIGKILL)
"""How a loop may end here: done, a stage was killed under it, killed itself."""

GONE_WITHIN_S = 20.0
"""By when the processes of a dead loop must be gone (chosen; the kernel kills them with their parent)."""


def group(leader: int) -> list[int]:
    """The processes of a group that run, its leader first."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            # pid (command) state parent group ...; the command may hold anything.
            state, _, process_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # no process, or one that has just ended
        if entry.name.isdigit() and int(process_group) == leader and state not in "ZX":
            found.append(int(entry.name))
    return sorted(found, key=lambda pid: (pid != leader, pid))


def place(root: Path) -> str:
    """'ROUND/STAGE' of the newest log, or 'start'."""
    logs = sorted(root.glob("round-*/logs/*.log"), key=lambda path: path.stat().st_mtime_ns)
    return f"{int(logs[-1].parts[-3].removeprefix('round-'))}/{logs[-1].stem}" if logs else "start"


class Killer:
    """Spends its kills on one run after the other, and remembers where they fell and what was wrong."""

    def __init__(self, kills: int, seed: int, mean_s: float) -> None:
        self.left, self._mean_s, self._rng = kills, mean_s, random.Random(seed)
        self.places: Counter[str] = Counter()
        self.targets: Counter[str] = Counter()
        self.wrong: list[str] = []

    def until_done(self, command: list[str], root: Path, log: Path) -> None:
        """Start `command`, kill, start again, until it ends by itself or ends badly."""
        while not self.wrong:
            code = self._once(command, root, log)
            if code == 0:
                return
            if code not in EXPLAINED:
                self.wrong.append(f"{root}: ended with exit code {code} ({place(root)}); see {log}")

    def _once(self, command: list[str], root: Path, log: Path) -> int:
        killed_before = self.targets.total()
        with log.open("a") as out, subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as loop:
            while self.left and loop.poll() is None:
                try:
                    loop.wait(self._rng.expovariate(1 / self._mean_s))
                except subprocess.TimeoutExpired:
                    self._kill(loop, root)
            code = loop.wait()
        self._refuse_survivors(loop.pid, root)
        if code != 0 and self.targets.total() == killed_before:
            self.wrong.append(f"{root}: ended with exit code {code}, and nothing was killed; see {log}")
        return code

    def _kill(self, loop: subprocess.Popen[bytes], root: Path) -> None:
        others = [pid for pid in group(loop.pid) if pid != loop.pid]
        hits_loop = not others or self._rng.random() < 0.5
        target = loop.pid if hits_loop else self._rng.choice(others)
        where = place(root)
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended just now
        self.left -= 1
        self.places[where] += 1
        self.targets["the loop" if hits_loop else "a child"] += 1
        print(f"{time.strftime('%H:%M:%S')} killed {'loop' if hits_loop else 'child'} in {where}", flush=True)
        if hits_loop:
            loop.wait()

    def _refuse_survivors(self, leader: int, root: Path) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := group(leader)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            self.wrong.append(f"{root}: processes {left} outlived their loop")


def differences(root: Path, whole: Path) -> list[str]:
    """What of a finished run differs from `whole`."""
    found, expected = small_run.contents(root), small_run.contents(whole)
    files = [f"{root / name}: differs" for name in sorted(found | expected) if found.get(name) != expected.get(name)]
    return files + (
        [] if small_run.asked(root) == small_run.asked(whole) else [f"{root}: other replies in the journal"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the waits and of what is killed")
    parser.add_argument("--mean-s", type=float, default=15, help="mean wait before a kill, in seconds")
    parser.add_argument("--out", type=Path, help="a new folder for the runs; default: a temporary one")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="kill-at-random-"))
    os.chdir(small_run.ROOT)
    whole = out / "whole"
    small_run.run(whole, "tracking.wandb=off")
    killer, runs = Killer(arguments.kills, arguments.seed, arguments.mean_s), 0
    while (killer.left or not runs) and not killer.wrong:
        runs += 1
        root = out / f"killed-{runs}"
        killer.until_done(small_run.command(root, "tracking.wandb=off"), root, out / f"killed-{runs}.log")
        if not killer.wrong:
            killer.wrong += differences(root, whole)
    for where, count in sorted(killer.places.items()):
        print(f"{where:14} {count} kills")
    print(", ".join(f"{target}: {count}" for target, count in killer.targets.items()))
    for line in killer.wrong:
        print(line, file=sys.stderr)
    print(f"{killer.targets.total()} kills in {runs} runs, byte-identical: {'no' if killer.wrong else 'yes'}")
    raise SystemExit(1 if killer.wrong else 0)


if __name__ == "__main__":
    main()
