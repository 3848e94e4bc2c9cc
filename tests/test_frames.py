"""Block layout: the same pixels in another order, and the same convolution."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.frames import BlockStacks, blocks, described, resize, stack_blocks, unblocks
from rl.loop import Step


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@settings(max_examples=15, deadline=None)
@given(lead=st.lists(st.integers(1, 3), max_size=3), seed=st.integers(0, 2**32 - 1))
def test_unblocks_undoes_blocks(lead, seed):
    frames = pixels(*lead, 84, 84, seed=seed)
    cells = blocks(frames)
    assert cells.shape == (*lead, 21, 21, 16)
    assert cells.flags.c_contiguous
    assert np.array_equal(unblocks(cells), frames)


@settings(max_examples=30, deadline=None)
@given(b=st.integers(0, 1), k=st.integers(0, 3), y=st.integers(0, 83), x=st.integers(0, 83))
def test_a_pixel_lies_in_its_block_at_its_row_and_column(b, k, y, x):
    obs = np.zeros((2, 4, 84, 84), np.uint8)
    obs[b, k, y, x] = 7
    assert np.argwhere(stack_blocks(obs)).tolist() == [[b, y // 4, x // 4, 16 * k + 4 * (y % 4) + x % 4]]


def test_a_convolution_of_kernel_8_and_stride_4_is_one_of_kernel_2_over_blocks():
    obs, weight = pixels(2, 4, 84, 84), np.random.default_rng(1).integers(-8, 9, (3, 4, 8, 8))
    over_pixels = F.conv2d(torch.from_numpy(obs).double(), torch.from_numpy(weight).double(), stride=4)
    # [out, frame, 2 cells, 4 rows, 2 cells, 4 columns] -> [out, (frame, row, column), 2, 2]
    ordered = weight.reshape(3, 4, 2, 4, 2, 4).transpose(0, 1, 3, 5, 2, 4).reshape(3, 64, 2, 2)
    cells = torch.from_numpy(stack_blocks(obs)).double().permute(0, 3, 1, 2)
    over_blocks = F.conv2d(cells, torch.from_numpy(np.ascontiguousarray(ordered)).double())
    assert over_pixels.shape == (2, 3, 20, 20)
    assert torch.equal(over_pixels, over_blocks)


def test_block_stacks_equal_the_stacks_of_the_vector_env():
    arguments = {"num_threads": 1, "repeat_action_probability": 0.0, "max_num_frames_per_episode": 90}
    deep, flat = (AtariVectorEnv("breakout", 2, stack_num=n, **arguments) for n in (4, 1))
    seeds = np.array([3, 8])
    obs, first = deep.reset(seed=seeds)[0], flat.reset(seed=seeds)[0][:, 0]
    stacks = BlockStacks(blocks(first))
    rng, ends = np.random.default_rng(0), 0
    for _ in range(60):
        assert np.array_equal(stacks.now, stack_blocks(obs))
        actions = rng.integers(4, size=2)
        obs, _, over, cut, _ = deep.step(actions)
        ended = over | cut
        frames = flat.step(actions)[0][:, 0]
        stacks.push(blocks(frames), np.zeros(2, bool))
        if ended.any():
            assert np.array_equal(stacks.now, stack_blocks(obs))
            ends += 1
            obs = deep.reset(options={"reset_mask": ended})[0]
            frames = flat.reset(options={"reset_mask": ended})[0][:, 0]
            stacks.push(blocks(frames), ended)
            assert ended.all()
    deep.close(), flat.close()
    assert ends > 1


def test_a_first_frame_has_a_past_of_zeros_and_the_others_keep_theirs():
    frames = pixels(6, 2, 84, 84)
    stacks = BlockStacks(blocks(frames[0]))
    for t, first in enumerate([(0, 0), (0, 1), (0, 0), (0, 0), (0, 0)], start=1):
        stacks.push(blocks(frames[t]), np.array(first, bool))
        start = (0, 2 if t >= 2 else 0)
        for b, k in itertools.product(range(2), range(4)):
            then = t - 3 + k
            wanted = frames[then, b] if then >= start[b] else np.zeros((84, 84), np.uint8)
            assert np.array_equal(unblocks(stacks.now[b, :, :, 16 * k : 16 * k + 16]), wanted)


def test_an_older_stack_is_not_changed_by_a_push():
    stacks = BlockStacks(blocks(pixels(2, 84, 84)))
    before, copy = stacks.now, stacks.now.copy()
    stacks.push(blocks(pixels(2, 84, 84, seed=1)), np.array([False, True]))
    assert np.array_equal(before, copy)


def test_resize_keeps_an_even_grey():
    assert (resize(np.full((210, 160), 93, np.uint8)) == 93).all()


def test_a_record_is_described_by_shapes():
    step = Step(np.zeros((4, 84, 84), np.uint8), 1.5, False, True, False)
    wanted = "Step(obs uint8 [4, 84, 84], reward=1.5, life_lost=False, terminated=True, truncated=False)"
    assert described(step) == wanted
