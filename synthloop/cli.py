"""The command line: `synthloop COMMAND`. Heavy imports happen inside commands, so that `--help` answers at once."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer
from rich.console import Console
from rich.markup import escape

from synthloop.errors import CollapseStop, UserError
from synthloop.frame import foreground, python, run_loop, user_errors, write_report
from synthloop.interrupt import catch_signals
from synthloop.screen import say, visible

if TYPE_CHECKING:
    from synthloop.store import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune a student with a closed synthetic-data loop.",
)

ConfigFile = Annotated[Path, typer.Argument(help="YAML, for example configs/quickstart.yaml")]
Overrides = Annotated[Optional[list[str]], typer.Argument(help="key.path=value, for example rounds=5")]  # noqa: UP045
RunDir = Annotated[Path, typer.Argument(help="run directory, for example runs/quickstart")]
RunOption = Annotated[Path, typer.Option("--run", help="run directory")]
RoundOption = Annotated[int, typer.Option("--round", help="round number")]


def _show_version(asked: bool) -> None:
    if asked:
        say(f"synthloop {version('synthloop')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Options of `synthloop` itself."""


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    run_dir: Annotated[Optional[Path], typer.Option("--run-dir", help="default: runs/<name>")] = None,  # noqa: UP045
    restart_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", help="redo from STAGE (latest round) or ROUND/STAGE"),
    ] = None,
) -> None:
    """Run the loop; the same command again resumes it."""
    from synthloop import loop
    from synthloop.check import check_file
    from synthloop.terminal import Terminal, open_console

    with user_errors():
        loaded, _ = check_file(config, overrides or [])
        console = open_console()
        with loop.open_run(loaded, run_dir or Path("runs") / loaded.name, restart_from) as opened:
            terminal = Terminal(opened, console)
            last = run_loop(opened, terminal)
            if terminal.num_steps == 0:
                say("The run is finished: no stage was left to run.")
            write_report(opened, console)
        if (last["stopped_by"] or "").startswith("collapse"):
            best = (
                f"best round {last['best_round']}" if last["best_round"] else "no round; the untouched student stands"
            )
            raise CollapseStop(f"The run was stopped by the collapse guard ({best}). {last['reaction']}")


@app.command()
def check(
    config: ConfigFile,
    overrides: Overrides = None,
    online: Annotated[bool, typer.Option("--online", help="ask the Hugging Face hub for what is not local")] = False,
    data: Annotated[Optional[Path], typer.Option("--data", help="what `train --data` would train on")] = None,  # noqa: UP045
) -> None:
    """Find every mistake in a config, its files and its data, and print what was found. No model is loaded.
    With --data: the first rows of a file as `train --data` would train on them, and what is left out or not read.

    `run` starts with the same check. Looked at: the schema, settings of plugins, names and values of settings of TRL,
    PEFT and vLLM, local model folders and their chat templates, all local rows and how they split, prompts against
    the context, each recipe played without a model. Not looked at without --online: models and data sets of the hub.
    """
    from synthloop.check import check_file

    with user_errors():
        if data is not None:
            where = ["--config", str(config), "--data", str(data), *(overrides or [])]
            return foreground(python("train.preview", *where), quiet=True)
        _, findings = check_file(config, overrides or [], online=online)
        say(str(findings))
        say(f"{config}: ok")


def _stage(run_dir: Path, *commands: list[str]) -> None:
    """Run stages of an existing run in the foreground, under the run's lock, and exit with the code of the last."""
    from synthloop.store import Run

    with user_errors(), Run(run_dir).lock():
        foreground(*commands)


def _opened(run_dir: Path, round_number: int) -> Run:
    """The run, where `round_number` is one of its rounds or the next. Raises `UserError`."""
    from synthloop.store import Run

    opened = Run(run_dir)
    last = max(opened.rounds(), default=0)
    if not 0 <= round_number <= last + 1:
        raise UserError(f"--round {round_number}: {run_dir} has the rounds 0 to {last}.")
    return opened


def _python_stage(module: str, run_dir: Path, round_number: int, *more: str) -> None:
    with user_errors():
        _opened(run_dir, round_number)
    _stage(run_dir, python(module, "--run", str(run_dir), "--round", str(round_number), *more))


@app.command()
def generate(run_dir: RunOption, round_number: RoundOption) -> None:
    """Stages `seed` and `generate` of one round: failures to candidates."""
    _python_stage("generate.run", run_dir, round_number)


@app.command()
def curate(run_dir: RunOption, round_number: RoundOption) -> None:
    """Stage `curate` of one round: candidates to kept and rejected."""
    _python_stage("generate.curate", run_dir, round_number)


@app.command()
def search(run_dir: RunOption, round_number: RoundOption) -> None:
    """Stages `trials` and `search` of one round, for `mix.policy: adaptive`: the ratio to mix by."""
    from synthloop.launch import launch

    where = ["--run", str(run_dir), "--round", str(round_number)]
    with user_errors():
        config = _opened(run_dir, round_number).config
        if config.mix.policy != "adaptive":
            raise UserError(f"{run_dir}: mix.policy is {config.mix.policy}, and only an adaptive mix is searched for.")
        trials = launch(config.train.accelerate, "train.trials", *where)
    _stage(run_dir, trials, python("eval.search", *where))


@app.command()
def mix(run_dir: RunOption, round_number: RoundOption) -> None:
    """Stage `mix` of one round: real and kept synthetic rows to training rows."""
    _python_stage("train.mix", run_dir, round_number)


@app.command("eval")
def evaluate(run_dir: RunOption, round_number: RoundOption) -> None:
    """Stage `eval` of one round: scores on probe and gate, failures, collapse signals."""
    _python_stage("eval.run", run_dir, round_number)


@app.command()
def train(
    config: Annotated[Optional[Path], typer.Argument(help="YAML with student and train")] = None,  # noqa: UP045
    overrides: Overrides = None,
    run_dir: Annotated[Optional[Path], typer.Option("--run", help="a run directory: its stage `train`")] = None,  # noqa: UP045
    round_number: Annotated[Optional[int], typer.Option("--round")] = None,  # noqa: UP045
    data: Annotated[Optional[Path], typer.Option("--data", help="JSONL of messages, or prompt and completion")] = None,  # noqa: UP045
    output: Annotated[Optional[Path], typer.Option("--output", help="folder for adapter/ and checkpoints/")] = None,  # noqa: UP045
) -> None:
    """Stage `train` of one round, or a plain LoRA training: synthloop train CONFIG --data ROWS.jsonl --output DIR."""
    from synthloop.config import TrainJob, parse
    from synthloop.launch import launch
    from synthloop.yaml_file import read_yaml

    if run_dir is not None and round_number is not None:
        with user_errors():
            accelerate = _opened(run_dir, round_number).config.train.accelerate
        _stage(run_dir, launch(accelerate, "train.run", "--run", str(run_dir), "--round", str(round_number)))
        return
    with user_errors():
        if config is None or data is None or output is None:
            raise UserError("expected --run DIR --round N, or CONFIG --data ROWS.jsonl --output DIR.")
        if not data.is_file():
            raise UserError(f"--data {data}: no such file. Expected JSONL of training rows.")
        content = read_yaml(config, overrides or [])
        job = parse(TrainJob, {key: content[key] for key in TrainJob.model_fields if key in content}, str(config))
        arguments = ["--config", str(config), "--data", str(data), "--output", str(output), *(overrides or [])]
        foreground(launch(job.train.accelerate, "train.run", *arguments))


@app.command()
def status(run_dir: RunDir) -> None:
    """Where a run is: the rounds so far, whether a process works on it, and the next stage."""
    from synthloop import report
    from synthloop.store import Run
    from synthloop.terminal import closing_lines, open_console, round_table, state_lines

    with user_errors():
        opened = Run(run_dir)
        console, built = open_console(), report.build(opened)
        console.print(round_table(built))
        for line in [*closing_lines(built), *state_lines(opened, built)]:
            console.print(visible(line), highlight=False, markup=False, soft_wrap=True)


@app.command()
def recipes() -> None:
    """The recipes that ship: what each does, the source of its method, its config."""
    _list_plugins("recipe")


@app.command()
def filters() -> None:
    """The filters that ship: what each does, the source of its method, its config."""
    _list_plugins("filter")


def _list_plugins(kind: Literal["recipe", "filter"]) -> None:
    from synthloop import plugins

    console = Console(highlight=False)
    for name in plugins.names(kind):
        about = plugins.about(kind, name)
        console.print(f"[bold]{name}[/]  {escape(about.summary)}", soft_wrap=True)
        console.print(f"    source: {about.source}", style="dim", markup=False, soft_wrap=True)
        for line in (about.example or "").splitlines():
            console.print(f"    {line}", markup=False, soft_wrap=True)


@app.command()
def sweep(
    run_dir: RunDir,
    round_number: Annotated[
        int | None, typer.Option("--round", help="default: the last one with synthetic data")
    ] = None,
    to: Annotated[Optional[Path], typer.Option("--to", help="default: RUN/sweep")] = None,  # noqa: UP045
    ratios: Annotated[str, typer.Option("--ratios", help="synthetic per real")] = "0,0.25,0.5,1,2,4",
    shares: Annotated[str, typer.Option("--shares", help="synthetic data at equal size")] = "0,0.25,0.5,0.75,1",
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="trainings of each value")] = 2,
    max_real_rows: Annotated[int, typer.Option("--max-real-rows", min=1, help="above: a part of all rows")] = 1000,
) -> None:
    """Train on different amounts and shares of a run's synthetic data; draw the held-out score against them."""
    from synthloop import sweep as sweeps
    from synthloop.store import Run

    with user_errors():
        opened, folder = Run(run_dir), to or run_dir / "sweep"
        planned = sweeps.prepare(opened, round_number, folder, ratios, shares, seeds, max_real_rows)
        foreground(*sweeps.commands(opened, planned.round, folder))


@app.command("report")
def report_command(run_dir: RunDir) -> None:
    """Write report.json and report.html anew and print the round table."""
    from synthloop.store import Run
    from synthloop.terminal import open_console

    with user_errors():
        write_report(Run(run_dir), open_console())


@app.command("verify")
def verify_command(run_dir: RunDir) -> None:
    """Compare every file of a run with what was recorded of it; exit 2 where one is missing, changed or a stranger."""
    from synthloop.store import Run
    from synthloop.verify import verify

    with user_errors():
        found = verify(Run(run_dir))
        for problem in found.problems:
            say(problem)
        if found.problems:
            raise typer.Exit(UserError.exit_code)
        say(f"{found.files} files of {found.stages} stages as recorded.")


@app.command()
def trace(
    run_dir: RunDir, sample_id: Annotated[str, typer.Argument(help="a candidate's or a real example's id")]
) -> None:
    """Where a sample came from: its seed, every request and reply, its fate in curation, the rounds trained on it."""
    from synthloop.store import Run
    from synthloop.trace import trace_lines

    with user_errors():
        for line in trace_lines(Run(run_dir), sample_id):
            say(line)


@app.command()
def review(
    run_dir: RunDir,
    to: Annotated[Optional[Path], typer.Option("--to", help="write a queue to decide on")] = None,  # noqa: UP045
    taken_from: Annotated[Optional[Path], typer.Option("--from", help="take its decisions")] = None,  # noqa: UP045
    round_number: Annotated[int, typer.Option("--round", help="round the queue is drawn from")] = 1,
    size: Annotated[int, typer.Option("--size", min=1, help="samples in the queue")] = 50,
) -> None:
    """Have people decide on samples: export a queue, import the decisions."""
    with user_errors():
        if (to is None) == (taken_from is None):
            raise UserError("Give either --to QUEUE.jsonl (export) or --from QUEUE.jsonl (import).")
        _python_stage(
            "generate.review",
            run_dir,
            round_number,
            *(["--to", str(to), "--size", str(size)] if to is not None else ["--from", str(taken_from)]),
        )


@app.command()
def compare(one: RunDir, other: RunDir) -> None:
    """Two runs on the same `test` rows: each score, and the paired difference with its interval."""
    with user_errors():
        foreground(python("eval.compare", "--run", str(one), "--against", str(other)), quiet=True)


@app.command()
def export(
    run_dir: RunDir,
    to: Annotated[Path, typer.Option("--to", help="folder to write")],
    round_number: Annotated[Optional[int], typer.Option("--round", help="default: the best round")] = None,  # noqa: UP045
    merge: Annotated[bool, typer.Option("--merge", help="merge the adapter into the student's weights")] = False,
) -> None:
    """The best round's adapter (or, with --merge, whole model) in a folder of its own."""
    command = python("train.export", "--run", str(run_dir), "--to", str(to))
    command += ["--round", str(round_number)] if round_number is not None else []
    with user_errors():
        foreground([*command, *(["--merge"] if merge else [])], quiet=True)


def main() -> None:
    """The console script."""
    catch_signals()
    app()
