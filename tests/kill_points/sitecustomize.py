"""Kills the loop at an exact point, from within: no test has to look for it in time.

Python imports a module of this name at every start, if this folder is on PYTHONPATH. `KILL_AT`, "COUNT PATTERN", is the
point: before the COUNT-th time that any one process of the run opens, renames or makes a path, or runs an SQL
statement, that fits the pattern. The loop must lead its process group.
"""

import os
import signal
import sqlite3
import sys
import time
from fnmatch import fnmatch
from typing import Any

left, pattern = int(os.environ["KILL_AT"].partition(" ")[0]), os.environ["KILL_AT"].partition(" ")[2]


def reach(what: object) -> None:
    global left
    if isinstance(what, str) and fnmatch(what, pattern):
        left -= 1
        if left == 0:
            os.kill(os.getpgrp(), signal.SIGKILL)
            while True:  # until the kernel kills this process after the loop
                time.sleep(1)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.mkdir", "os.rename"):
        for one in arguments[:2]:
            reach(os.fspath(one) if isinstance(one, os.PathLike) else one)


def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    opened = connect_unwatched(*arguments, **options)
    opened.set_trace_callback(reach)
    return opened


connect_unwatched, sqlite3.connect = sqlite3.connect, connect
sys.addaudithook(watch)
