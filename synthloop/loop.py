"""The closed loop: which stage runs next, as a child process, and what is decided after each round.

    round 0   eval + test of the untouched student
    round n   seed, generate -> curate -> (trials -> search ->) mix -> train -> eval -> decide
    end       test of the best round, report

Each step's exact command line is printed and logged, so that a person can paste it. Running again resumes: a complete
stage is skipped, a half-done one continues.
"""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from synthloop import card, progress
from synthloop.child import WARNING, shown, start
from synthloop.config import Config, dump
from synthloop.decisions import decide, hand_over
from synthloop.errors import StageFailed, SynthloopError, UserError
from synthloop.files import copy_folder
from synthloop.folders import RUN_MARK, lock, refuse_foreign
from synthloop.interrupt import Interrupted
from synthloop.launch import launch
from synthloop.provenance import write_provenance
from synthloop.splits import prepare, refuse_other_data
from synthloop.store import STAGES, Run, Stage, read_json, stage_settings, write_json

SILENT_S = 600.0
"""A child that prints nothing for so long is spoken of (chosen). It is not killed: loading a large model may take as
long, and only a person can tell."""


class Step(NamedTuple):
    """One child process: the stages it completes and its command line."""

    stages: tuple[str, ...]
    command: list[str]


class Watcher(Protocol):
    """What the loop tells of itself while it runs."""

    def step_started(self, round: int, step: Step) -> None: ...

    def step_progress(self, update: progress.Update) -> None: ...

    def step_silent(self, seconds: float) -> None: ...

    def warned(self, line: str) -> None: ...

    def step_ended(self, round: int, step: Step, seconds: float) -> None: ...

    def round_ended(self, run: Run, round: int) -> None: ...


@contextmanager
def open_run(config: Config, root: Path, restart_from: str | None = None) -> Iterator[Run]:
    """The run at `root`, locked, made where it is new; an existing one must have been made by the same settings.

    Args:
        restart_from: 'STAGE' or 'ROUND/STAGE': that stage and all after it are forgotten first.

    Raises:
        UserError: settings or data changed that a complete stage depends on (they and the remedies are named), the
            folder holds something else, or another process writes to the run.
    """
    refuse_foreign(root, [RUN_MARK], f"Give the run a folder of its own, for example --run-dir runs/{config.name}")
    resolved = root / RUN_MARK
    if restart_from and not resolved.exists():
        raise UserError(f"--from {restart_from}: {root} is not a run yet.")
    root.mkdir(parents=True, exist_ok=True)
    with lock(root):
        if resolved.exists():
            run = Run(root)
            again = to_redo(run, restart_from) if restart_from else []
            _refuse_changes(run, config, again)
            for stage in again:
                stage.forget()
        write_json(resolved, dump(config), sealed=True)
        yield Run(root)


def _refuse_changes(run: Run, config: Config, again: list[Stage]) -> None:
    """Raise `UserError` where a complete stage, other than those to be done `again`, was made otherwise."""
    data = run.root / "data" / "splits.json"
    if data.exists() and "published" not in read_json(data):
        raise UserError(
            f"{run.root} was made before runs recorded what their real data held, so nobody can tell whether it "
            "changed. Use --run-dir DIR (or name=NAME) for a new run."
        )
    if data.exists():  # before the stages: no stage that is redone would split the data anew
        _compare(run, read_json(data)["settings"], stage_settings(config, "data"), "data")
        refuse_other_data(config, run.config, run.root)
    for stage in (run.stage(round, name) for round in run.rounds() for name in (*STAGES, "test")):
        if stage.is_complete and stage not in again:
            _compare(run, stage.record()["settings"], stage_settings(config, stage.name), f"{stage.round}/{stage.name}")


def _compare(run: Run, done: Any, asked: Any, where: str) -> None:
    changed = sorted(_differences(done, asked, ""))
    if not changed:
        return
    remedy = "" if where == "data" else f" --from {where} to redo this stage and all after it,"
    raise UserError(
        f"{run.root}: settings changed since '{where}' was completed:\n  "
        + "\n  ".join(changed)
        + f"\nPut them back, or use{remedy} --run-dir DIR (or name=NAME) for a new run."
    )


def _differences(one: Any, other: Any, path: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield f"{path}: was {one!r}, is now {other!r}"


def to_redo(run: Run, where: str) -> list[Stage]:
    """A stage and everything after it, the last first: one that is killed while it forgets them leaves no gap.

    `where` is 'STAGE' (of the latest round) or 'ROUND/STAGE'. Nothing follows from `test` but the tests of later
    rounds, which are compared with it.
    """
    head, _, tail = where.rpartition("/")
    rounds = run.rounds()
    if tail not in (*STAGES, "test") or not rounds or (head and not (head.isascii() and head.isdecimal())):
        raise UserError(f"--from {where}: expected STAGE or ROUND/STAGE, STAGE one of {', '.join((*STAGES, 'test'))}.")
    first = int(head) if head else rounds[-1]
    if first not in rounds:
        raise UserError(f"--from {where}: {run.root} has no round {first}; it has {', '.join(map(str, rounds))}.")
    tests = [run.stage(round, "test") for round in rounds if round >= (first if tail == "test" else max(first, 1))]
    after = [
        (round, name)
        for round in rounds
        for name in (STAGES if tail != "test" else ())
        if (round, STAGES.index(name)) >= (first, STAGES.index(tail))
    ]
    return [*tests, *(run.stage(round, name) for round, name in reversed(after))]


def steps(run: Run, round: int) -> Iterator[Step]:
    """The steps of a round, in order, decided as it goes: after a curation that kept nothing, the round ends."""
    where = ["--run", str(run.root), "--round", str(round)]
    if round == 0:
        yield Step(("eval", "test"), _python("eval.run", *where, "--stage", "eval", "--stage", "test"))
        return
    if run.config.generate.recipes:
        yield Step(("seed", "generate"), _python("generate.run", *where))
        yield Step(("curate",), _python("generate.curate", *where))
        if kept(run, round) == 0:
            return
    if run.config.mix.policy == "adaptive":
        yield Step(("trials",), launch(run.config.train.accelerate, "train.trials", *where))
        yield Step(("search",), _python("eval.search", *where))
    yield Step(("mix",), _python("train.mix", *where))
    yield Step(("train",), launch(run.config.train.accelerate, "train.run", *where))
    yield Step(("eval",), _python("eval.run", *where))


def test_step(run: Run, round: int) -> Step:
    """The one look at `test` after the baseline: the best round, when the run has ended."""
    where = ["--run", str(run.root), "--round", str(round)]
    return Step(("test",), _python("eval.run", *where, "--stage", "test"))


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def kept(run: Run, round: int) -> int | None:
    """Candidates that the round's curation kept; None where it generated nothing by design."""
    record = run.stage(round, "curate")
    return int(read_json(record.folder / "funnel.json")["kept"]) if record.is_complete else None


def execute(run: Run, round: int, step: Step, watcher: Watcher) -> None:
    """Run one step as a child process; its output goes to `round-NNN/logs/<stage>.log`.

    Raises:
        UserError, StageFailed: with the child's own message, by its exit code.
        KeyboardInterrupt: the child was interrupted and has saved its state.
    """
    run.failure_path.unlink(missing_ok=True)
    if all(run.stage(round, stage).is_complete for stage in step.stages):
        return
    log_path = run.round_dir(round) / "logs" / f"{step.stages[-1]}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    watcher.step_started(round, step)
    started = time.monotonic()
    with log_path.open("a", encoding="utf-8") as log:
        log.write(f"$ {shown(step.command)}\n")
        log.flush()
        code, tail = _follow(step.command, log, watcher)
    if code != 0:
        error = _failure(code, step, tail, log_path)
        if isinstance(error, SynthloopError):
            with suppress(OSError):  # a full disk must not hide what the stage said
                write_json(run.failure_path, {"round": round, "stages": step.stages, "message": str(error)})
        raise error
    missing = [stage for stage in step.stages if not run.stage(round, stage).is_complete]
    assert not missing, (missing, step.command)
    watcher.step_ended(round, step, time.monotonic() - started)


def _follow(command: list[str], log: Any, watcher: Watcher) -> tuple[int, list[str]]:
    """(exit code, last lines) of a child whose merged output is written to `log` and whose progress is passed on."""
    tail: list[str] = []
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 0}
    with start(command, {"SYNTHLOOP_PROGRESS": "1"}, **streams) as child:
        for line in _lines(child.stdout, watcher):
            if (update := progress.parse(line)) is not None:
                watcher.step_progress(update)
                continue
            log.write(f"{line}\n")
            log.flush()
            if line.startswith(WARNING):
                watcher.warned(line)
            tail = [*tail[-39:], line]
    return child.returncode, tail


def _lines(stream: Any, watcher: Watcher) -> Iterator[str]:
    """What a child writes to its pipe, line by line; the watcher is told of each SILENT_S in which nothing came."""
    ready = select.poll()
    ready.register(stream)
    rest, silent = b"", 0.0
    while True:
        if not ready.poll(1000 * SILENT_S):
            silent += SILENT_S
            watcher.step_silent(silent)
            continue
        silent = 0.0
        if not (read := stream.read(1 << 16)):
            break
        *lines, rest = re.split(rb"\r?\n|\r", rest + read)
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _failure(code: int, step: Step, tail: list[str], log_path: Path) -> BaseException:
    """The error to raise for a child's exit code, carrying the child's own message."""
    if code in (Interrupted().exit_code, -signal.SIGINT):
        return Interrupted()
    starts = [index for index, line in enumerate(tail) if line.startswith("error: ")]
    message = "\n".join(_own_words(tail[starts[-1] :])) if starts else "\n".join(tail[-12:])
    name = "+".join(step.stages)
    kind = UserError if code == UserError.exit_code else StageFailed
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return kind(f"The stage {name} {ended}. Its log: {log_path}\n{message}")


def _own_words(lines: list[str]) -> list[str]:
    """The lines of a stage's own message: from 'error: ' to the traceback a launcher may have added."""
    end = next((index for index, line in enumerate(lines) if line.startswith("Traceback")), len(lines))
    return [lines[0].removeprefix("error: "), *lines[1:end]]


def run_loop(run: Run, watcher: Watcher, track: Callable[[Run, int], None]) -> dict[str, Any]:
    """Run, or resume, the whole loop of a run that `open_run` has locked.

    `track(run, round)` is called after each decided round, and once more for the best one when its `test` is measured.

    Returns:
        The last `round.json`: its `action` says whether the rounds were used up ('continue') or why it stopped.
    """
    write_provenance(run)
    prepare(run.config, run.root)
    for round in range(run.config.rounds + 1):
        verdict = _round(run, round, watcher)
        track(run, round)
        watcher.round_ended(run, round)
        if verdict["action"] == "stop":
            break
    best: int = verdict["best_round"]
    execute(run, 0, test_step(run, 0), watcher)
    if best > 0:
        execute(run, best, test_step(run, best), watcher)
        track(run, best)
        keep_best(run, best)
    return verdict


def keep_best(run: Run, best: int) -> None:
    """Copy the adapter of the best round to `best_adapter/` with its model card, whole or not at all."""
    adapter = run.adapter(best)
    assert adapter is not None, best
    copy_folder(adapter, run.root / "best_adapter", lambda folder: card.finish(folder, run, best))


def _round(run: Run, round: int, watcher: Watcher) -> dict[str, Any]:
    if not run.stage(round, "decide").is_complete:
        hand_over(run, round)
        for step in steps(run, round):
            execute(run, round, step, watcher)
        decide(run, round)
    verdict: dict[str, Any] = read_json(run.round_dir(round) / "round.json")
    return verdict
