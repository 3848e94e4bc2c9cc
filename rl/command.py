"""What every command shares: strict settings out of hydra's tree, one message for an error, clean stops by signal."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar, get_type_hints

from rl.settings import SettingsError, build, unknown

T = TypeVar("T")
# Sections that a game's file may hold; a command takes its own and leaves the others.
CONF = Path(__file__).resolve().parent.parent / "conf"
SECTIONS = (
    "env",
    "teacher",
    "rollouts",
    "distill",
    "integers",
    "finetune",
    "chip",
    "verify",
    "score",
    "play",
    "replay",
)


def settings(kind: type[T], tree: Mapping[str, Any]) -> T:
    """A command's settings from its resolved config tree; unknown and missing keys are errors."""
    own = get_type_hints(kind)
    return build(kind, {k: v for k, v in tree.items() if k in own or k not in SECTIONS}, "")


class JobError(Exception):
    """A job of a sweep that ended with a status other than 0: its argument."""


class Halt:
    """The signal that ends a sweep, 0 while it goes on: jobs under way save and end, the others do not begin."""

    def __init__(self) -> None:
        self.signal = 0

    def watch(self) -> None:
        """In the process that began the sweep: leave the first Ctrl-C to the jobs; a second one ends at once."""
        signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler)
        print("jobs of this machine save and end, the same command goes on; once more ends at once", file=sys.stderr)


HALT = Halt()


def launch(main: Callable[[], None], sweeps: bool = False) -> None:
    """Begin a command: what hydra refuses on the command line or in a file is one clear message, as our own errors.

    A command that has no sweeps refuses them: hydra would do the first job and call that a success.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises what it would print over several lines
    sys.argv[1:] = [as_hydra_spells(argument) for argument in sys.argv[1:]]
    if asked := [argument for argument in sys.argv[1:] if asks_for_a_sweep(argument)]:
        if not sweeps:
            advice = "this command has no sweeps, python -m rl.train has; see docs/scaling.md"
            print(f"error: {asked[0]}: {advice}", file=sys.stderr)
            sys.exit(1)
        HALT.watch()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except JobError as failed:
        sys.exit(failed.args[0])
    except Exception as error:
        if not _of_hydra(error) or os.environ.get("SPIKECADE_TRACE"):
            raise
        print(f"error: {_refusal(error)}", file=sys.stderr)
        sys.exit(1)


def as_hydra_spells(argument: str) -> str:
    """make's GAME=Pong and GAMES=Pong,Breakout as hydra takes them; any other argument as it is."""
    name, equals, value = argument.partition("=")
    if name == "GAME" and equals:
        return f"game={value}"
    return f"games=[{value}]" if name == "GAMES" and equals else argument


def asks_for_a_sweep(argument: str) -> bool:
    """Whether hydra would make one of it: by a flag, shortened as argparse allows, or by its setting."""
    flag = argument == "-m" or (argument.startswith("--m") and "--multirun".startswith(argument))
    return flag or argument.upper() == "HYDRA.MODE=MULTIRUN"


def _of_hydra(error: Exception) -> bool:
    """Whether hydra or omegaconf refused: by an error of their own or one of Python's that they raise."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return bool({type(error).__module__.split(".")[0], raised.split(".")[0]} & {"hydra", "omegaconf"})


def _refusal(error: Exception) -> str:
    """Hydra's words without its advice to change our settings; a wrong key with the nearest right one."""
    if isinstance(error, ValueError) and (empty := _empty_group(sys.argv[1:])):
        return empty
    cause: Any = error.__cause__
    group, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if isinstance(group, Mapping) and key is not None:
        path = str(cause.full_key)
        groups = [folder.name for folder in CONF.iterdir() if folder.is_dir()] if path == key else []
        return path.removesuffix(str(key)) + unknown(str(key), [*map(str, group), *groups])
    lines = [line.strip() for line in str(error).split("Config search path")[0].splitlines() if line.strip()]
    said = "; ".join(line for line in lines if not line.startswith(("See ", "To append", "Set the environment")))
    return f"{said}; some launchers need an extra, see docs/scaling.md" if "'hydra/launcher/" in said else said


def _empty_group(arguments: list[str]) -> str:
    """The complaint about the first group=null of a command line, whose name hydra does not tell; else nothing."""
    for name, _, value in (argument.partition("=") for argument in arguments):
        names = sorted(path.stem for path in (CONF / name).glob("*.yaml"))
        if value == "null" and names:
            return f"{name}: found null, must be a name such as {', '.join(names)}; leave it out for the default"
    return ""


def run(main: Callable[[], int]) -> None:
    """Run a command: our own errors are one clear message and status 1, a clean stop by signal is its number."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("SPIKECADE_TRACE"):  # where it was raised
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


class Stop:
    """Set by SIGINT or SIGTERM; the loop that watches it ends between two steps. A second signal ends at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        with suppress(OSError):  # the terminal may be gone, and the run is saved all the same
            os.write(2, b"\nstopping after this step or evaluation; a second signal stops at once\n")

    def __bool__(self) -> bool:
        return self.signal != 0

    def status(self) -> int:
        """The exit status that says so."""
        return 128 + self.signal if self.signal else 0

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a run's folder; a second program on it is refused. What fails before it wrote anything leaves no folder."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        if not _locked(lock):
            raise SettingsError(f"{folder}: another program is at work there; wait for it or stop it")
        try:
            yield
        except BaseException:
            _leave_no_trace(folder, made)
            raise


def _locked(lock: IO[str]) -> bool:
    """Whether a lock's file is now ours; one that was removed after we opened it holds nobody off."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(lock.fileno()).st_nlink > 0


def _leave_no_trace(folder: Path, made: list[Path]) -> None:
    """Where a run wrote nothing: no lock, and no folder that was not there before."""
    with suppress(OSError):  # another run has begun beside it
        if [path.name for path in folder.iterdir()] == ["lock"]:
            (folder / "lock").unlink()
            for path in made:
                path.rmdir()
