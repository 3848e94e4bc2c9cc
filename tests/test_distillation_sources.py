"""Lessons: only of this teacher, labels of the very stacks that come with them, the student's own play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distill_cases import SHORT, record, teacher
from rollout_cases import episode

from distill.learner import imitation
from distill.sources import Lesson, Online, Recorded, joined, shifted, spread
from rl.checkpoint import PolicyCheckpoint
from rl.frames import Frames
from rl.manifest import read_manifest
from rl.recording import RolloutWriter
from rl.rollouts import Rollouts
from rl.settings import SettingsError

Dataset = tuple[PolicyCheckpoint, Path]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("sources")
    policy = teacher("Pong", root)
    return policy, record(policy, root)


def test_recorded_labels_are_the_teachers_values_of_their_stacks(dataset):
    policy, folder = dataset
    recorded, network = Recorded(folder, policy, 0.25), policy.build()
    lesson = recorded.lesson(np.random.default_rng(1), 33)
    assert lesson.cells.shape == (33, 21, 21, 64) and lesson.cells.dtype == torch.uint8
    with torch.no_grad():
        assert torch.allclose(network(lesson.cells), lesson.q, rtol=1e-4, atol=1e-5)


def test_exams_come_from_episodes_that_no_lesson_comes_from(dataset):
    policy, folder = dataset
    recorded, data = Recorded(folder, policy, 0.25), Rollouts.open(folder)
    train, held_out = data.split(0.25)
    assert recorded.size == len(train) and recorded.digest == data.manifest.digest
    rng = np.random.default_rng(2)
    taught = {tuple(q) for q in recorded.lesson(rng, 600).q.tolist()}
    examined = {tuple(q) for q in recorded.exam(rng, 300).q.tolist()}
    assert taught <= {tuple(q) for q in data.q[train].tolist()}
    assert examined <= {tuple(q) for q in data.q[held_out].tolist()} and len(examined) > 10


def test_equal_generators_draw_equal_lessons_and_others_do_not(dataset):
    recorded = Recorded(dataset[1], dataset[0], 0.25)
    one, same, other = (recorded.lesson(np.random.default_rng(seed), 16) for seed in (1, 1, 2))
    assert torch.equal(one.cells, same.cells) and torch.equal(one.q, same.q) and not torch.equal(one.q, other.q)


def test_a_dataset_of_another_teacher_is_refused(dataset, tmp_path):
    policy, folder = dataset
    other = teacher("Pong", tmp_path, seed=9)
    found = f"recorded from teacher {policy.digest[:12]}, this one is {other.digest[:12]}; run make rollouts again"
    with pytest.raises(SettingsError, match=found):
        Recorded(folder, other, 0.25)


def test_a_dataset_without_labels_is_refused(dataset, tmp_path):
    policy, folder = dataset
    facts = replace(read_manifest(folder).facts, teacher={"digest": None})
    with RolloutWriter(tmp_path, facts) as writer:
        writer.add_episode(episode(4, 1, q=np.zeros((4, 6), np.float32), greedy=np.zeros(4, bool)))
    with pytest.raises(
        SettingsError, match=r"recorded without a teacher's values; run make teacher, then make rollouts$"
    ):
        Recorded(tmp_path, policy, 0.25)


def test_a_dataset_of_another_game_or_action_set_is_refused(dataset, tmp_path):
    policy, folder = dataset
    with pytest.raises(SettingsError, match="Breakout"):
        Recorded(folder, teacher("Breakout", tmp_path), 0.25)
    with pytest.raises(SettingsError, match="FIRE"):
        Recorded(folder, replace(policy, actions=("NOOP", "UP")), 0.25)


class Watcher:
    """A student that always does the same and remembers what it saw."""

    def __init__(self, action: int) -> None:
        self.seen: list[Frames] = []
        self._action = action

    def __call__(self, stacks: Frames) -> np.ndarray:
        self.seen.append(stacks.copy())
        return np.full(len(stacks), self._action)


def play(source: Online, watcher: Watcher) -> None:
    source.begin(watcher(source.stacks))
    source.end()


def online(policy: PolicyCheckpoint, epsilon: float = 0.0, seed: int = 4, rows: int = 60) -> Online:
    return Online(policy, SHORT, 3, rows, epsilon, seed)


def test_the_ring_gives_back_what_the_student_saw_with_the_teachers_labels(dataset):
    policy, _ = dataset
    source, watcher, network = online(policy), Watcher(2), policy.build()
    for _ in range(27):  # over two ends of episodes, and more than the ring of 20 slots holds
        play(source, watcher)
    lesson = source.lesson(np.random.default_rng(3), 90)
    source.close()
    seen = {stack.tobytes() for stacks in watcher.seen for stack in stacks}
    assert {stack.tobytes() for stack in lesson.cells.numpy()} <= seen
    with torch.no_grad():
        assert torch.allclose(network(lesson.cells), lesson.q, rtol=1e-4, atol=1e-5)
    assert source.seen == 81 and len(source.returns) == 6


@pytest.mark.parametrize(("epsilon", "least", "most"), [(0.0, 0, 0), (0.5, 75, 145), (1.0, 195, 262)])
def test_the_student_acts_but_for_a_share_of_random_actions(dataset, epsilon, least, most):
    source = online(dataset[0], epsilon, rows=270)
    for _ in range(90):
        play(source, Watcher(1))
    actions = source._buffer.action
    source.close()
    # A random action is one of six, the student's own among them.
    assert least <= (actions != 1).sum() <= most and len(actions) == 270


def test_equal_seeds_play_equal_games_and_other_seeds_do_not(dataset):
    played = []
    for seed in (4, 4, 5):
        source, watcher = online(dataset[0], 0.5, seed), Watcher(0)
        for _ in range(15):
            play(source, watcher)
        source.close()
        played.append(np.stack(watcher.seen))
    assert np.array_equal(played[0], played[1]) and not np.array_equal(played[0], played[2])


def test_lessons_are_joined_in_order():
    parts = [Lesson(torch.full((n, 21, 21, 64), n, dtype=torch.uint8), torch.full((n, 3), float(n))) for n in (2, 1)]
    whole = joined(parts)
    assert whole.q[:, 0].tolist() == [2, 2, 1] and whole.cells[:, 0, 0, 0].tolist() == [2, 2, 1]


@pytest.mark.parametrize(("name", "value"), [("frames_per_step", 3), ("full_actions", True)])
def test_a_dataset_of_other_preprocessing_is_refused(dataset, name, value):
    policy, folder = dataset
    Recorded(folder, policy, 0.25, SHORT)
    found = (
        rf"recorded with env.{name} {getattr(SHORT, name)}, here {value}: its pictures are not those that the student"
    )
    with pytest.raises(SettingsError, match=found + r" will see; run make rollouts again"):
        Recorded(folder, policy, 0.25, replace(SHORT, **{name: value}))


def test_caps_and_starts_of_a_dataset_may_differ(dataset):
    Recorded(dataset[1], dataset[0], 0.25, replace(SHORT, max_frames=999, noop_max=3, sticky=0.25))


def test_fewer_decisions_are_the_first_ones_of_the_same_episodes(dataset):
    policy, folder = dataset
    whole, few = Recorded(folder, policy, 0.25), Recorded(folder, policy, 0.25, decisions=7)
    assert few.size == 7 < whole.size
    rng = np.random.default_rng(0)
    values = {tuple(row) for row in few.lesson(rng, 200).q.tolist()}
    assert len(values) <= 7


def test_a_spread_is_the_mean_deviation_of_values_in_a_state_whatever_their_level():
    q = np.array([[1.0, 3.0], [10.0, 10.0], [-5.0, 3.0]], np.float32)
    assert spread(q) == pytest.approx((1 + 0 + 4) / 3) and spread(q + 100) == pytest.approx(spread(q))
    assert spread(7 * q) == pytest.approx(7 * spread(q)) and spread(0 * q) > 0


def test_lessons_carry_their_teachers_spread(dataset):
    policy, folder = dataset
    recorded = Recorded(folder, policy, 0.25, unit="spread")
    rows = Rollouts.open(folder)
    assert recorded.lesson(np.random.default_rng(0), 3).unit == pytest.approx(spread(rows.q[rows.split(0.25)[0]]))
    assert Recorded(folder, policy, 0.25).unit == 1.0


def test_labels_of_games_with_other_scales_are_alike_in_units_of_their_spread():
    q = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    small, large = (Lesson(torch.zeros(50), scale * q, spread((scale * q).numpy())) for scale in (0.01, 30.0))
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    for name in ("kl", "nll", "mse"):
        loss = imitation(name, 0.5)
        assert loss(logits, small).item() == pytest.approx(loss(logits, large).item(), rel=1e-4)


def test_pictures_move_by_up_to_so_many_pixels_and_repeat_their_edge():
    obs = np.arange(84 * 84, dtype=np.uint16).astype(np.uint8).reshape(1, 1, 84, 84).repeat(40, 0).repeat(4, 1)
    moved = shifted(obs, np.random.default_rng(3), 2)
    padded = np.pad(obs[0, 0], 2, mode="edge")
    allowed = {padded[y : y + 84, x : x + 84].tobytes() for y in range(5) for x in range(5)}
    assert {row[0].tobytes() for row in moved} <= allowed and len({row[0].tobytes() for row in moved}) > 10
    assert all((row == row[0]).all() for row in moved), "the pictures of a stack move together"
    assert shifted(obs, np.random.default_rng(3), 0) is obs
