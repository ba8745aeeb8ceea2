"""Commands as a person types them: in this process where no child matters, else in one of their own."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner, Result

from synthloop import cli, loop
from synthloop.cli import app
from synthloop.config import load_config
from synthloop.store import Run, write_json, write_rows
from tests import small_run
from tests.test_loop import in_process

QUICKSTART = ["configs/quickstart.yaml", "rounds=1", "task.num_train=60", "task.num_test=20", "tracking.wandb=off"]
QUICKSTART += ["splits.train=20", "splits.probe=20", "splits.gate=20"]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_run.ROOT)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of tests/fake_stages.py in place of the real ones."""
    monkeypatch.setattr(loop, "_follow", in_process)


def synthloop(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def new_run(root: Path) -> Run:
    with loop.open_run(load_config(Path(QUICKSTART[0]), QUICKSTART[1:]), root) as run:
        write_json(root / "script.json", {})
        return run


@pytest.mark.usefixtures("faked")
def test_a_finished_run_says_so(tmp_path: Path) -> None:
    root = new_run(tmp_path / "run").root
    said = [synthloop("run", *QUICKSTART, "--run-dir", root) for _ in range(2)]
    assert [one.exit_code for one in said] == [0, 0], said[0].output
    assert ["The run is finished: no stage was left to run." in one.output for one in said] == [False, True]


def test_a_stage_of_a_round_that_is_neither_there_nor_next_is_refused(tmp_path: Path) -> None:
    root = new_run(tmp_path / "run").root
    for command, round in (("mix", 9), ("eval", -1), ("train", 3)):
        done = synthloop(command, "--run", root, "--round", round)
        assert done.exit_code == 2
        assert f"--round {round}: {root} has the rounds 0 to 0." in done.output.replace("\n", "")
    assert "no curated synthetic data in round 9." in synthloop("sweep", root, "--round", 9).output


def test_the_version_is_told() -> None:
    assert synthloop("--version").output.startswith("synthloop 0.")


def test_a_run_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    done = synthloop("run", *QUICKSTART, "--run-dir", tmp_path)
    assert done.exit_code == 2
    assert "--run-dir runs/quickstart" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.usefixtures("faked")
def test_a_full_disk_ends_with_4_and_the_stages_own_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full gives a real ENOSPC for the stage's log; the report meets the same."""
    root = new_run(tmp_path / "run").root
    (root / "round-000" / "logs").mkdir(parents=True)
    (root / "round-000" / "logs" / "test.log").symlink_to("/dev/full")
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as disk:
        disk.setattr("synthloop.page.write", Mock(side_effect=full))
        done = synthloop("run", *QUICKSTART, "--run-dir", root)
    assert done.exit_code == 4
    told = done.output.splitlines()
    assert [line.partition(":")[0] for line in told[-3:-1]] == ["The report could not be written", "error"], told
    assert "The disk is full" in told[-2]
    assert told[-1] == "The state is saved; the same command resumes."
    (root / "round-000" / "logs" / "test.log").unlink()
    assert synthloop("run", *QUICKSTART, "--run-dir", root).exit_code == 0


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = new_run(tmp_path / "run").root
    opens = Path.open

    def read_only(path: Path, mode: str = "r", *rest: object, **options: object) -> object:
        if "r" not in mode:
            raise OSError(30, "Read-only file system", str(path))
        return opens(path, mode, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(os, "open", lambda path, *_: (_ for _ in ()).throw(OSError(30, "Read-only file system", path)))
    assert synthloop("status", root).exit_code == 0
    for command in (["report", root], ["run", *QUICKSTART, "--run-dir", root]):
        done = synthloop(*command)
        assert done.exit_code == 4, done.output
        assert "error: No access ([Errno 30] Read-only file system: " in done.output


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    nope, rows = tmp_path / "nope", tmp_path / "nope.jsonl"
    cases = {
        ("status", nope): f"{nope} is not a run: no such folder",
        ("status", tmp_path): f"{tmp_path} is not a run: it holds no config.resolved.json",
        ("train", QUICKSTART[0], "--data", rows, "--output", tmp_path / "out"): f"--data {rows}: no such file",
    }
    for arguments, message in cases.items():
        done = synthloop(*arguments)
        assert done.exit_code == 2
        assert message in done.output


def test_a_sweep_goes_into_no_folder_of_something_else(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with run.stage(1, "curate").write([]):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.json").write_text("mine")
    done = synthloop("sweep", run.root, "--to", tmp_path / "mine")
    assert done.exit_code == 2
    assert "left alone: sweep.json" in done.output


def test_what_a_model_wrote_does_not_steer_the_terminal(tmp_path: Path) -> None:
    from synthloop.records import Example
    from synthloop.splits import prepare
    from synthloop.store import read_rows

    run = new_run(tmp_path / "run")
    prepare(run.config, run.root)
    first = read_rows(run.split("train"), Example)[0].model_copy(update={"input": "\x1b[2J\x1b]0;title\x07"})
    (run.root / "data" / "splits.json").unlink()  # what nobody recorded is read as it is
    write_rows(run.split("train"), [first])
    assert "\\x1b[2J\\x1b]0;title\\x07" in synthloop("trace", run.root, first.id).output
    assert "\\x1b[2J" in synthloop("trace", run.root, "\x1b[2J").output


def test_a_round_can_be_named_for_export_as_the_messages_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(cli, "foreground", lambda command, **_: commands.append(command))
    assert synthloop("export", tmp_path, "--to", tmp_path / "out", "--round", "2").exit_code == 0
    assert commands[0][-2:] == ["--round", "2"]


SIGNALLED = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Ended by SIGTERM.", signal.SIGHUP: "Ended by SIGHUP."}


def heed_signals() -> None:
    """Where the tests run in the background a shell, or nohup, has signals ignored in all that is started there."""
    for number in SIGNALLED:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="module")
def signalled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[signal.Signals, tuple[Path, int, str]]]:
    """Signal -> (run directory, exit code, stderr) of a run in its first stage; SIGINT comes five times."""
    base = tmp_path_factory.mktemp("signalled")
    synthloop, ended = str(Path(sys.executable).with_name("synthloop")), {}
    started = {
        number: subprocess.Popen(
            [synthloop, "run", *QUICKSTART, "--run-dir", str(base / number.name)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=small_run.ROOT,
            preexec_fn=heed_signals,
        )
        for number in SIGNALLED
    }
    try:
        for number, process in started.items():
            log = base / number.name / "round-000" / "logs" / "test.log"
            while not (log.exists() and "eval.run" in log.read_text()):
                assert process.poll() is None
                time.sleep(0.01)
            for _ in range(5 if number == signal.SIGINT else 1):
                process.send_signal(number)
            _, errors = process.communicate()
            ended[number] = (base / number.name, process.returncode, errors)
        yield ended
    finally:
        for process in started.values():
            process.kill()


@pytest.mark.parametrize("number", SIGNALLED, ids=lambda number: number.name)
def test_a_signal_ends_a_run_like_ctrl_c(
    signalled: dict[signal.Signals, tuple[Path, int, str]], number: signal.Signals
) -> None:
    root, code, errors = signalled[number]
    assert code == 128 + number
    assert errors.strip().splitlines()[-1] == f"{SIGNALLED[number]} The state is saved; the same command resumes."
    assert "Traceback" not in errors
    if number != signal.SIGINT:  # five in a row leave no time for it
        assert (root / "report.json").exists()
    with loop.lock(root):
        pass
