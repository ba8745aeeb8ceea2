"""What a person sees while the loop runs: the round table, the commands, one progress bar; plain lines in a pipe."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from synthloop.child import shown
from synthloop.loop import Step
from synthloop.progress import Update
from synthloop.report import build
from synthloop.screen import visible
from synthloop.store import STAGES, Run


def interval(scores: dict[str, Any] | None, *, key: str = "value", signed: bool = False) -> str:
    """'63.2 [58.1, 67.9]': a score in percent with its interval; '-' where there is none."""
    if not scores:
        return "-"
    sign = "+" if signed else ""
    value, low, high = (100 * scores[name] for name in (key, "ci_low", "ci_high"))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def round_table(report: dict[str, Any]) -> Table:
    """One line a round: scores with intervals, the gains on probe and gate, the funnel, the mix, the decision."""
    table = Table(title=f"{report['name']}: percent correct with 95% intervals", title_justify="left", box=SIMPLE)
    for heading in ("round", "probe", "gate", "test", "gain probe/gate", "kept", "real", "collapse", "decision"):
        left = heading in ("collapse", "decision")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for one in report["rounds"]:
        table.add_row(*map(escape, _row(one)))
    return table


def _row(one: dict[str, Any]) -> list[str]:
    scores, mix, generated, gain = one["eval"], one["mix"], one["generate"], one["overfitting"]
    decision = "accepted" if one["accepted"] else "rolled back" if one["trained"] else "nothing trained"
    return [
        str(one["round"]),
        *(interval(scores.get(split)) for split in ("probe", "gate", "test")),
        f"{100 * gain['probe_gain']:+.1f}/{100 * gain['gate_gain']:+.1f}" if gain else "-",
        f"{generated['kept']}/{generated['candidates']}" if generated else "-",
        f"{100 * mix['real_fraction']:.0f}%" if mix else "-",
        one["collapse"]["verdict"] if one["collapse"] else "-",
        decision if one["round"] else "baseline",
    ]


def closing_lines(report: dict[str, Any]) -> list[str]:
    """The headline in words: the gain on test with n, interval and p, the best round, what the search took; of a run
    that has not ended, that it has not, and why a stage failed. The last line says so where nothing was trained."""
    gain, searched = report["gain"], search_lines(report)
    stopped = [f"Stopped by {report['stopped_by']}."] if report["stopped_by"] else []
    if not report["finished"]:
        return [*unfinished_lines(report), *searched]
    if gain is None:
        headline = f"Best round: {report['best_round']} (the untouched student); no round was accepted."
        return [headline, *stopped, *searched, *nothing_trained(report)]
    return [
        f"Best round: {report['best_round']}. Gain on {gain['split']} over the untouched student: "
        f"{interval(gain, signed=True)} points, n={gain['n']}, p={gain['p_value']:.2g}.",
        *stopped,
        *searched,
    ]


def unfinished_lines(report: dict[str, Any]) -> list[str]:
    """How far a run is that has not ended, and what its last stage said where that failed."""
    failure, rounds = report["failure"], report["rounds"]
    decided = "no round is decided yet"
    if rounds:
        decided = f"round {rounds[-1]['round']} is decided, best so far is round {report['best_round']}"
    lines = [f"The run is not finished: {decided}."]
    return [*lines, *(f"Round {failure['round']}. {failure['message']}".splitlines() if failure else [])]


def nothing_trained(report: dict[str, Any]) -> list[str]:
    """Why not, of a run in which no round was trained; nothing of any other."""
    if any(one["trained"] for one in report["rounds"]):
        return []
    last = report["rounds"][-1]
    why = last["reason"].removeprefix("nothing trained: ") if last["round"] else f"stopped by {report['stopped_by']}"
    return [f"Nothing was trained: {why}."]


def state_lines(run: Run, report: dict[str, Any]) -> list[str]:
    """Whether a process works on the run, and where it stands."""
    if report["finished"]:
        return ["The run is finished."]
    held = run.is_locked()
    who = "A process is working on it" if held else "No process is working on it; the same `synthloop run` goes on"
    round = next((one for one in run.rounds() if not run.stage(one, "decide").is_complete), None)
    if round is None:
        return [f"{who}. The next round has not begun."]
    done = [name for name in STAGES if run.stage(round, name).is_complete]
    return [f"{who}. Round {round} is half done; complete: {', '.join(done) or 'nothing yet'}."]


def search_lines(report: dict[str, Any]) -> list[str]:
    """What the searches of an adaptive mix found and took, all rounds together; nothing where there were none."""
    found = [one["search"] for one in report["rounds"] if one["search"]]
    if not found:
        return []
    seconds = sum(one["cost"]["train_seconds"] + one["cost"]["score_seconds"] for one in found)
    whole = sum(sum(one["seconds"].values()) for one in report["rounds"])
    ratios = ", ".join(f"{one['ratio']:.3g}" for one in found)
    trials = sum(one["cost"]["trials"] for one in found)
    return [
        f"Synthetic per real, by round: {ratios}. Finding it took {trials} trials and {seconds:.0f} s of the "
        f"{whole:.0f} s of all stages."
    ]


def open_console() -> Console:
    """The console of a terminal; in a pipe one wide enough for the round table."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 150))


class Terminal:
    """The loop's watcher that draws. In a pipe it prints a line a step, and one a round."""

    def __init__(self, run: Run, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._bar: Any = None
        self.num_steps = 0
        self._table = round_table(build(run))
        self._live = Live(self._view(), console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Terminal:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with suppress(OSError):  # after a SIGHUP the terminal may be gone
                self._live.stop()

    def _view(self) -> Group:
        return Group(self._table, self._progress)

    def step_started(self, round: int, step: Step) -> None:
        self.num_steps += 1
        self._say(f"round {round} $ {shown(step.command)}", style="dim")
        self._bar = self._progress.add_task(f"round {round} {'+'.join(step.stages)}", total=None)

    def step_progress(self, update: Update) -> None:
        if self._bar is not None:
            self._progress.update(self._bar, completed=update.done, total=update.total)

    def step_silent(self, seconds: float) -> None:
        self._say(
            f"The stage has printed nothing for {seconds / 60:.0f} min. Ctrl-C ends it; the same command resumes."
        )

    def warned(self, line: str) -> None:
        self._say(line, style="yellow")

    def step_ended(self, round: int, step: Step, seconds: float) -> None:
        self._progress.remove_task(self._bar)
        self._bar = None
        self._say(f"round {round}   {'+'.join(step.stages)} done in {seconds:.1f} s", style="dim")

    def round_ended(self, run: Run, round: int) -> None:
        report = build(run)
        self._table = round_table(report)
        if search := report["rounds"][round]["search"]:
            self._say(f"round {round} = {search['told']}")
        if scores := report["rounds"][round]["eval"]:
            self._say(f"round {round} = {', '.join(f'{split} {interval(one)}' for split, one in scores.items())}")
        self._say(f"round {round} = {report['rounds'][round]['reason']}")
        if self._live:
            self._live.update(self._view())

    def _say(self, line: str, style: str | None = None) -> None:
        self._console.print(visible(line), style=style, highlight=False, markup=False, soft_wrap=True)
