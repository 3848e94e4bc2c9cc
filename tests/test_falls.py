"""Rows before a fall: their value is lost within a few decisions of the same episode, and they can still be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from distill_cases import TINY, linked, prepared, tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.distiller import Distiller
from distill.sources import AHEAD, Falls
from rl.frames import STACK
from rl.settings import SettingsError

ENVS, SLOTS, DEPTH = 3, 40, 2.0


def played(seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [T, B] that wander and now and then fall, and where episodes begin [T, B]."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(steps, ENVS)).cumsum(axis=0) * 0.4 - 3.0 * (rng.random((steps, ENVS)) < 0.05)
    first = rng.random((steps, ENVS)) < 0.06
    first[0] = True
    return values.astype(np.float32), first


def plainly(values: np.ndarray, first: np.ndarray) -> set[int]:
    """The same by the definition, for the rows that are still there and will be after the next additions."""
    steps, found = len(values), set()
    for begin in range(max(0, steps + STACK - SLOTS), steps):
        for env in range(ENVS):
            for end in range(begin + 1, min(begin + AHEAD, steps - 1) + 1):
                if first[end, env]:
                    break
                if values[begin, env] - values[end, env] > DEPTH:
                    found.add(begin % SLOTS * ENVS + env)
    return found


@given(st.integers(0, 1000), st.integers(1, 130))
@settings(max_examples=40, deadline=None)
def test_rows_are_marked_as_the_definition_says(seed, steps):
    values, first = played(seed, steps)
    falls = Falls(SLOTS * ENVS, ENVS, DEPTH)
    for step in range(steps):
        falls.note(step % SLOTS * ENVS + np.arange(ENVS), values[step], first[step])
    assert set(np.flatnonzero(falls.marked)) == plainly(values, first)


def test_rows_before_falls_are_drawn_alone_and_nothing_where_there_are_none():
    falls = Falls(SLOTS * ENVS, ENVS, DEPTH)
    assert len(falls.draw(np.random.default_rng(0), 5)) == 0
    for step, value in enumerate((5.0, 5.0, 1.0)):
        falls.note(step * ENVS + np.arange(ENVS), np.array([value, 1.0, 1.0], np.float32), np.array([step == 0] * ENVS))
    assert set(falls.draw(np.random.default_rng(0), 50).tolist()) == {0, ENVS}


def test_a_share_of_a_students_own_lessons_lies_before_falls(tmp_path):
    root = prepared(tmp_path / "ready", "Pong")
    config = tiny_run(linked(root, tmp_path / "run"), mode="online", online_falls=0.5)
    distiller = Distiller(config)
    online = distiller.online[0]
    for _ in range(20):
        online.begin(np.zeros(len(online.stacks), np.int64))
        online.end()
    falls = online._falls
    falls.marked[:] = False
    falls.marked[[10, 12]] = True
    rows = online.draw(np.random.default_rng(0), 8)
    assert set(rows[:4].tolist()) <= {10, 12} and len(rows) == 8
    falls.marked[:] = False
    assert len(online.draw(np.random.default_rng(0), 8)) == 8
    distiller.close()


def test_a_share_beyond_all_is_refused():
    with pytest.raises(SettingsError, match=r"distill.online_falls: found 1.5, allowed 0 to 1"):
        replace(TINY, online_falls=1.5)
