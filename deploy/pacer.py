"""Pace: thirty pictures a second by absolute deadlines, with work measured apart from sleep."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Clock = Callable[[], float]  # monotonic seconds
Sleep = Callable[[float], None]


RECENT = 240  # pictures: eight seconds at 30 a second


class Work(NamedTuple):
    """One picture's work."""

    share: float  # of the period; 1 and above: no sleep was left
    late: bool


class Pacer:
    """Sleeps until the next deadline; whoever comes late is counted and begins a fresh period."""

    def __init__(self, period_s: float, now: Clock, sleep: Sleep) -> None:
        """A period in seconds (> 0), a monotonic clock and a sleep; the first period begins now.

        Raises:
            ValueError: the period is not above zero.
        """
        if not period_s > 0:
            raise ValueError(f"Pacer.period_s: found {period_s}, allowed above 0; try 1/30")
        self.period_s = period_s
        self._now, self._sleep = now, sleep
        self.start()

    def start(self) -> None:
        """Forget what was measured and begin the first period now: what was set up before is not a picture's work."""
        self.late = 0
        self.work_s = array("d")  # one entry a picture; 8 bytes each, so that a run may last for days
        self.recent: deque[Work] = deque(maxlen=RECENT)  # the last pictures, newest last
        self._started_s = self._began_s = self._now()
        self._deadline_s = self._began_s + self.period_s

    def wait(self) -> None:
        """End a picture: sleep until its deadline, or count it as late and re-anchor."""
        ready_s = self._now()
        self.work_s.append(ready_s - self._began_s)  # the sleep is not work, nor is the part slept too long
        slack_s = self._deadline_s - ready_s
        self.recent.append(Work(self.work_s[-1] / self.period_s, slack_s < 0))
        if slack_s >= 0:
            self._sleep(slack_s)
            self._deadline_s += self.period_s
            self._began_s = self._now()
        else:  # a stall is counted and causes no sprint
            self.late += 1
            self._began_s = self._now()
            self._deadline_s = self._began_s + self.period_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, sleep and work together."""
        return self._now() - self._started_s

    @property
    def last_work_s(self) -> float:
        """Work of the picture before this one, in seconds; 0 before the first."""
        return self.work_s[-1] if self.work_s else 0.0


class VirtualClock:
    """Time that passes only by sleeping: a recording is never late, however long its pictures take."""

    def __init__(self, breath_s: float = 0.002) -> None:
        """`breath_s`: real seconds of each sleep, in which an encoder keeps up with its queue."""
        self._now_s, self._breath_s = 0.0, breath_s

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        time.sleep(self._breath_s)


@dataclass(frozen=True)
class Pace:
    """How a run kept time."""

    pictures: int
    late: int  # pictures ready after their deadline
    work_p50_s: float  # seconds of work a picture, sleep left out
    work_p99_s: float
    work_max_s: float


def pace(work_s: Sequence[float], late: int) -> Pace:
    """Sum up the work of each picture, in seconds; every percentile is a value that was measured (nearest rank)."""
    if not len(work_s):
        return Pace(0, late, 0.0, 0.0, 0.0)
    p50, p99, most = np.percentile(np.asarray(work_s), (50, 99, 100), method="inverted_cdf").tolist()
    return Pace(len(work_s), late, p50, p99, most)
