"""How children are started, and what they end with; the children are real processes."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from synthloop import child
from synthloop.errors import StageFailed, UserError, known_error
from synthloop.loop import launch

ROOT = Path(__file__).parents[1]
SYNTHLOOP = str(Path(sys.executable).with_name("synthloop"))


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a user's own modules, each of which leaves a marker when it is run or imported."""
    folder = tmp_path / "crowded"
    folder.mkdir()
    for name in ("train", "eval", "generate", "synthloop", "json", "accelerate"):
        (folder / f"{name}.py").write_text("open(__file__ + '.marker', 'w').close()\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def markers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.marker"))


def test_a_users_own_modules_reach_no_child_and_no_pasted_command(crowded: Path) -> None:
    accelerated = launch(ROOT / "configs/accelerate/cpu.yaml", "train.run")
    for command in ([sys.executable, "-m", "generate.run"], accelerated):
        with child.start(command, stderr=subprocess.PIPE, text=True) as process:
            assert "--r" in process.stderr.read(), "the stage itself asks for its options"
        assert process.returncode == UserError.exit_code, "whatever the launcher made of it"
    pasted = child.shown([sys.executable, "-m", "eval.compare", "--help"])
    assert "--against" in subprocess.run(pasted, shell=True, capture_output=True, text=True, check=True).stdout
    assert markers(crowded) == []


def test_a_plugin_on_pythonpath_is_found_and_a_copy_of_our_names_there_is_refused(
    crowded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'plugins'}:{ROOT}")
    with child.start([sys.executable, "-c", "import mine, train.run"]) as process:
        pass
    assert process.returncode == 0
    monkeypatch.setenv("PYTHONPATH", f"{crowded}:{ROOT}")
    (crowded / "json.py").unlink()  # what hides the standard library breaks Python itself
    (crowded / "synthloop.py").unlink()
    done = subprocess.run([SYNTHLOOP, "status", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, markers(crowded)) == (2, [])
    assert "crowded/eval.py stands in front of synthloop's own package 'eval'" in done.stderr


@pytest.mark.parametrize(("code", "is_told"), [(2, True), (4, True), (9, False)])
def test_a_launcher_does_not_hide_how_a_stage_ended(tmp_path: Path, code: int, is_told: bool) -> None:
    stage = f"from synthloop.child import fail; fail('x', {code})" if is_told else f"raise SystemExit({code})"
    launcher = f"import subprocess, sys; subprocess.call([sys.executable, '-c', {stage!r}]); sys.exit(1)"
    with child.start([sys.executable, "-c", launcher], {"PYTHONPATH": str(ROOT)}) as process:
        pass
    assert process.returncode == (code if is_told else 1)


def test_a_stage_whose_loop_was_killed_before_it_began_does_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    program = f"from synthloop.child import die_with; die_with({gone.pid}); open('written', 'w')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False).returncode == 1
    assert not (tmp_path / "written").exists()


def test_a_body_that_raises_ends_the_child() -> None:
    with pytest.raises(RuntimeError), child.start([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        raise RuntimeError
    assert process.returncode == -15


def test_a_signal_that_comes_during_the_fork_is_not_lost() -> None:
    program = """
import os, signal, sys
from synthloop.child import start
from synthloop.interrupt import Interrupted, catch_signals
catch_signals()
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGTERM))
try:
    with start([sys.executable, "-c", "import time; time.sleep(600)"]):
        pass
except Interrupted as error:
    sys.exit(error.exit_code)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert b"Traceback" not in done.stderr


def full_journal() -> Exception:
    db = sqlite3.connect(":memory:")
    db.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
    return caught.value


def full_device() -> Exception:
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as stream:
        stream.write("x")
    return caught.value


def test_a_disk_that_takes_nothing_is_told_in_a_sentence() -> None:
    for full in (full_journal(), full_device(), RuntimeError("I/O error: No space left on device (os error 28)")):
        known = known_error(full)
        assert isinstance(known, StageFailed)
        assert "disk is full" in str(known)
    locked = known_error(OSError(errno.EROFS, "Read-only file system", "run.lock"))
    assert locked is not None
    assert "run.lock" in str(locked)
    assert known_error(sqlite3.OperationalError("no such table")) is None
    assert known_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
