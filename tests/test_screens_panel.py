"""The panel shows votes, the chosen action and each core, where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import a_picture

from deploy.panel import BAD, BAR, CHOSEN, GROUND, beside, enlarged, heat, panel, panel_width, pooled, vote_shares

ALL = tuple(f"ACTION{i}" for i in range(18))


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly that colour."""
    return int((image == colour).all(axis=2).sum())


@pytest.mark.parametrize("height", [420, 630, 210, 97])
@pytest.mark.parametrize("n_actions", [1, 6, 7, 18])
def test_a_panel_has_the_height_asked_for_and_an_even_width(height: int, n_actions: int) -> None:
    picture = a_picture(actions=ALL[:n_actions], votes=np.arange(n_actions, dtype=np.int32), action=0)
    assert panel(picture, height).shape == (height, panel_width(height), 3)
    assert panel_width(height) % 2 == 0


def test_shares_go_from_zero_to_the_highest_vote() -> None:
    assert vote_shares(np.array([0, 2, 8, 4], np.int32)).tolist() == [0.0, 0.25, 1.0, 0.5]


def test_shares_go_from_the_lowest_vote_where_it_is_negative() -> None:
    assert vote_shares(np.array([-4, 0, 4], np.int32)).tolist() == [0.0, 0.5, 1.0]


def test_shares_of_no_votes_at_all_are_zero() -> None:
    assert vote_shares(np.zeros(3, np.int32)).tolist() == [0.0, 0.0, 0.0]


def test_only_the_chosen_action_is_marked() -> None:
    votes = np.array([8, 8, 0, 0, 0, 0], np.int32)
    first, third = (panel(a_picture(votes=votes, action=action), 420) for action in (0, 2))
    assert count(first, CHOSEN) - count(third, CHOSEN) > 1000  # its bar, of full length against none
    assert count(third, BAR) > count(first, BAR)


def test_a_longer_vote_has_a_longer_bar() -> None:
    few, many = (panel(a_picture(votes=np.array([n, 0, 64, 0, 0, 0], np.int32), work_s=0.0), 420) for n in (16, 32))
    assert count(many, BAR) == 2 * count(few, BAR)


def test_a_board_is_pooled_to_what_there_is_room_for() -> None:
    board = np.full((5, 7), -1, np.int32)
    board[4, 6], board[0, 1] = 9, 3
    assert pooled(board, 4).tolist() == [[3, -1, -1, -1], [-1] * 4, [-1, -1, -1, 9], [-1] * 4]
    assert np.array_equal(pooled(board[:, :5], 9), board[:, :5])
    wide = np.zeros((256, 256), np.int32)
    wide[200, 3] = 256
    assert panel(a_picture(activity=wide), 420).shape == panel(a_picture(), 420).shape
    assert (panel(a_picture(activity=wide), 420) != panel(a_picture(activity=0 * wide), 420)).any()


def test_each_core_is_a_square_at_its_place_in_the_mesh() -> None:
    activity = np.zeros((64, 64), np.int32)
    changed = activity.copy()
    changed[5, 17] = 200
    before, after = (panel(a_picture(activity=a), 420)[200:, :212] for a in (activity, changed))
    rows, columns = np.nonzero((before != after).any(axis=2))
    assert sorted(set(rows.tolist())) == [22 + 3 * 5 + i for i in range(3)]
    assert sorted(set(columns.tolist())) == [16 + 3 * 17 + i for i in range(3)]


def test_more_spikes_are_hotter_and_unused_cores_vanish_into_the_ground() -> None:
    colours = heat(np.array([[-1, 0, 1, 16, 256, 9999]], np.int32))[0]
    assert tuple(colours[0].tolist()) == GROUND
    brightness = colours[1:].astype(int).sum(axis=1).tolist()
    assert brightness == sorted(brightness)
    assert brightness[0] < brightness[1] < brightness[2] < brightness[3] == brightness[4]


def test_lateness_is_shown_in_red() -> None:
    assert count(panel(a_picture(late=0), 420), BAD) == 0 < count(panel(a_picture(late=1), 420), BAD)


def test_a_player_without_thoughts_has_a_panel_too() -> None:
    bare = panel(a_picture(votes=None, activity=None, work_s=0.0), 420)
    assert count(bare, BAR) == 0
    assert count(bare, CHOSEN) > 0


def test_the_frame_stands_beside_the_panel_in_sharp_pixels() -> None:
    picture = a_picture()
    image = beside(picture, 2)
    assert image.shape == (420, 320 + panel_width(420), 3)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert np.array_equal(image[dy:420:2, dx:320:2], picture.frame)
    assert np.array_equal(image[:, 320:], panel(picture, 420))


def test_enlarging_keeps_unequal_sides_apart() -> None:
    image = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert np.array_equal(enlarged(image, 3), image.repeat(3, axis=0).repeat(3, axis=1))
