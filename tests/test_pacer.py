"""The pacer keeps absolute deadlines, counts lateness and leaves sleep out of work."""

from __future__ import annotations

import pytest
from fakes import FakeClock

from deploy.pacer import Pace, Pacer, pace


def shown(pacer: Pacer, clock: FakeClock, works_s: tuple[float, ...]) -> list[float]:
    """When each picture was over, given the work in each."""
    times_s = []
    for work_s in works_s:
        clock.t_s += work_s
        pacer.wait()
        times_s.append(clock.t_s)
    return times_s


def test_a_late_picture_does_not_cause_a_sprint() -> None:
    clock = FakeClock()
    pacer = Pacer(0.25, clock.now, clock.sleep)
    assert shown(pacer, clock, (0.125, 0.5, 0.125, 0.125)) == [0.25, 0.75, 1.0, 1.25]
    assert pacer.late == 1


def test_a_long_stall_counts_as_one_late_picture() -> None:
    clock = FakeClock()
    pacer = Pacer(0.25, clock.now, clock.sleep)
    assert shown(pacer, clock, (10.0, 0.0, 0.0)) == [10.0, 10.25, 10.5]
    assert pacer.late == 1


def test_a_picture_ready_on_its_deadline_is_not_late() -> None:
    clock = FakeClock()
    pacer = Pacer(0.25, clock.now, clock.sleep)
    assert shown(pacer, clock, (0.25, 0.25)) == [0.25, 0.5]
    assert pacer.late == 0
    assert clock.slept_s == [0.0, 0.0]


def test_deadlines_do_not_drift_when_sleep_oversleeps() -> None:
    clock = FakeClock()

    def oversleep(seconds: float) -> None:
        clock.sleep(seconds + 0.0625)

    pacer = Pacer(0.25, clock.now, oversleep)
    assert shown(pacer, clock, (0.125, 0.125, 0.125)) == [0.3125, 0.5625, 0.8125]
    assert pacer.late == 0


def test_work_leaves_out_the_sleep_and_what_was_slept_too_long() -> None:
    clock = FakeClock()

    def oversleep(seconds: float) -> None:
        clock.sleep(seconds + 0.0625)

    pacer = Pacer(0.25, clock.now, oversleep)
    shown(pacer, clock, (0.125, 0.5, 0.0625))
    assert list(pacer.work_s) == [0.125, 0.5, 0.0625]
    assert pacer.last_work_s == 0.0625


def test_start_forgets_what_was_set_up_before() -> None:
    clock = FakeClock()
    pacer = Pacer(0.25, clock.now, clock.sleep)
    shown(pacer, clock, (1.0,))
    clock.t_s += 7.0
    pacer.start()
    assert (pacer.late, list(pacer.work_s), pacer.last_work_s, pacer.elapsed_s) == (0, [], 0.0, 0.0)
    assert shown(pacer, clock, (0.125,)) == [8.25]
    assert pacer.elapsed_s == 0.25


@pytest.mark.parametrize("period_s", [0.0, -0.5, float("nan")])
def test_a_period_must_be_above_zero(period_s: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match=r"^Pacer\.period_s: found .*, allowed above 0; try 1/30$"):
        Pacer(period_s, clock.now, clock.sleep)


def test_percentiles_are_values_that_were_measured() -> None:
    work_s = [i / 128 for i in range(1, 101)]
    assert pace(work_s, 3) == Pace(pictures=100, late=3, work_p50_s=50 / 128, work_p99_s=99 / 128, work_max_s=100 / 128)


def test_the_pace_of_nothing_is_zero() -> None:
    assert pace([], 0) == Pace(pictures=0, late=0, work_p50_s=0.0, work_p99_s=0.0, work_max_s=0.0)
