"""`python -m rl.train` many times over: torch is imported once, every run is a process forked from this one.

`Server` is the tests' side of it, `main` the process. What a run may be given beside its command line: what of ours it
holds to smaller numbers, a size that no file of its may pass, and the write at which it is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

ROOM = Path(__file__).resolve().parent.parent
WRITES = ("os.rename", "os.remove", "os.mkdir")  # and files opened for writing
PATIENCE_S = 120.0


class Run:
    """One process of the command, `out` what it says."""

    def __init__(self, server: Server, pid: int, out: Path) -> None:
        self._server, self.pid, self._out = server, pid, out
        self.peak_bytes = 0  # of memory, known once it has ended

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def over(self) -> bool:
        return self._server.ask({"over": self.pid}) == "1"

    def over_in(self, wait_s: float) -> bool:
        """Wait so long, or until it ends by itself."""
        end_s = time.monotonic() + wait_s
        while time.monotonic() < end_s and not self.over:
            time.sleep(0.005)
        return self.over

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def said(self, text: str) -> None:
        """Wait until it says that."""
        end_s = time.monotonic() + PATIENCE_S
        while text not in self.out:
            assert time.monotonic() < end_s and not self.over, self.out
            time.sleep(0.005)

    def wait(self) -> int:
        """Its exit status, minus the signal that ended it."""
        status, self.peak_bytes = map(int, self._server.ask({"wait": self.pid}).split())
        return status


class Server:
    """Starts runs; ends them all with itself."""

    def __init__(self) -> None:
        line = [sys.executable, "-m", "tests.fork_server"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(line, cwd=ROOM, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def ask(self, question: dict[str, Any]) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def start(self, out: Path, arguments: Sequence[str], **given: Any) -> Run:
        """Begin the command; `given` as `child` takes it."""
        return Run(self, int(self.ask({"out": str(out), "arguments": list(arguments), **given})), out)

    def run(self, out: Path, arguments: Sequence[str], **given: Any) -> tuple[int, str]:
        """(exit status, what it said) of a whole run."""
        started = self.start(out, arguments, **given)
        return started.wait(), started.out

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def main() -> None:
    import rl.train  # noqa: F401  before the first fork: the seconds that this takes are what the server is for

    for line in sys.stdin:
        question = json.loads(line)
        if "over" in question:
            over = os.waitid(os.P_PID, question["over"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
            print(int(over is not None), flush=True)
        elif "wait" in question:
            _, status, used = os.wait4(question["wait"], 0)
            print(os.waitstatus_to_exitcode(status), 1024 * used.ru_maxrss, flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            child(**question)


def child(
    out: str,
    arguments: list[str],
    log_frames: int | None = None,
    largest: int | None = None,
    kill_at: int | None = None,
    kill_in: int | None = None,
    unprivileged: bool = False,
    counted_s: bool = False,
) -> None:
    """Be the command from here on.

    `log_frames`: between two lines of metrics; `largest`: bytes of a file; `kill_at`: which of its writes below its
    root is never made; `kill_in`: which of its files gets half-way; `unprivileged`: modes of files hold for root too;
    `counted_s`: the clock of checkpoints goes a second on whenever it is looked at.
    """
    import rl.train

    said = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["rl.train", f"--config-path={ROOM / 'conf'}", *arguments]  # hydra looks beside the file that began it
    if log_frames:
        rl.train.LOG_FRAMES = log_frames
    if counted_s:
        rl.train.time = SimpleNamespace(monotonic=itertools.count().__next__)  # type: ignore[attr-defined]
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if unprivileged:
        drop_capabilities()
    if kill_at:
        killed_at(kill_at, next(a.removeprefix("root=") for a in arguments if a.startswith("root=")))
    if kill_in:
        killed_in(kill_in)
    status = 70
    try:
        rl.train.launch(rl.train.main)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the server has open is not this process's to close


def killed_at(count: int, root: str) -> None:
    """Die just before the `count`-th change to the files below `root`."""
    left = itertools.count(count, -1)

    def watch(event: str, facts: tuple[Any, ...]) -> None:
        writes = event in WRITES or (event == "open" and isinstance(facts[1], str) and facts[1][:1] in "wa")
        if writes and str(facts[0]).startswith(root) and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def killed_in(count: int) -> None:
    """Die when half of the `count`-th file that is written whole has reached the disk."""
    sync, left = os.fsync, itertools.count(count, -1)

    def cut(file: int) -> None:
        if next(left) == 1:
            os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = cut


def drop_capabilities() -> None:
    """Root, too, is from here on held to the modes of files (capset(2), version 3: no capability in any set)."""
    import ctypes

    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main()
