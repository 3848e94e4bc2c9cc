"""A student that sees earlier pictures: relays keep their bits on the chip, and chip = spec at every decision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import equal_runs, student
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rollout_cases import record as record_rollouts
from run_cases import ENV, small_student

from deploy import build, convert, inspect, score, verify
from deploy.activity import record_held
from deploy.batch import BatchRunner
from deploy.checks import compiled_violations
from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiled import KIND, VERSION, Compiled, check_compiled, load_compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.emulator import EmulationError, Emulator
from deploy.engine import LazyEngine
from deploy.engines import ENGINES
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.players import ChipPlayer, SpecPlayer
from deploy.runner import ChipRunner
from deploy.score import GameRun, ScoreSettings
from deploy.spec import KIND as SPEC_KIND
from deploy.spec import Conv, SpecError, StudentSpec, load_spec, save_spec
from deploy.usage import usage_text
from deploy.verification import Verifier, first_difference
from rl.games import ScalarGame
from rl.loop import Epsilon, RandomPlayer, moments
from rl.rollouts import Rollouts
from rl.scores import Protocol, evaluate
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT

TINY = CHIPS["tiny"]
BOARD = replace(TINY, name="board", chips_x=3, chips_y=4)  # room for whatever is drawn
SLOW = Chip("slow", width=31, height=29, axons=70, neurons=44, axon_types=3, max_delay=15)
Frames = NDArray[np.uint8]


def remembering(history: int, seed: int = 0, pictures: int = 1) -> StudentSpec:
    """Two layers behind a front of 24 bits that sees so many pictures at once."""
    return student([(12, 2, 1, 1, 1), (9, 1, 1, 0, 1)], (2, 2, 2, 0, 1), (pictures, 9, 7), (3,), seed, history)


def stacks_of(frames: Frames, depth: int) -> Frames:
    """[n, H, W] pictures of one episode -> its stacks [n, depth, H, W], newest last, black before the first."""
    dark = np.zeros((depth - 1, *frames.shape[1:]), np.uint8)
    padded = np.concatenate([dark, frames])
    return np.stack([padded[t : t + depth] for t in range(len(frames))])


def episode(spec: StudentSpec, count: int, seed: int) -> Frames:
    """Stacks of an episode of random pictures, deeper than the student needs."""
    _, height, width = spec.stack_shape
    frames = np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)
    return stacks_of(frames, spec.stack_shape[0] + 1)


def stream(compiled: Compiled, spec: StudentSpec, obs: Frames, engine: Any = LazyEngine) -> NDArray[np.int32]:
    """Votes of an episode as a player asks for them: the first stack whole, then the newest picture of each."""
    runner = ChipRunner(compiled, engine)
    first = runner.answer(spec.transduce(obs[:1])[0])
    return np.array([first, *(runner.answer(spec.newest(one[None])[0]) for one in obs[1:])])


# ---- the definition


def fires_plainly(front: Conv, window: Frames) -> NDArray[np.bool_]:
    """A front without padding over [C, H, W], one product at a time."""
    fired = np.zeros(front.out_shape, bool)
    for (o, y, x), _ in np.ndenumerate(fired):
        total = int(front.leak[o])
        for (c, dy, dx), weight in np.ndenumerate(front.weights[o]):
            total += int(weight) * int(window[front.order[c], y * front.stride + dy, x * front.stride + dx])
        fired[o, y, x] = total >= 1
    return fired


@pytest.mark.parametrize(("history", "pictures"), [(1, 3), (2, 1), (3, 2), (4, 1)])
def test_block_k_is_what_the_front_made_of_the_stack_k_pictures_ago(history, pictures):
    spec = student([(4, 2, 2, 0, 1)], (3, 2, 2, 0, 1), (pictures, 7, 5), (2,), 3, history)
    frames = np.random.default_rng(1).integers(0, 256, (6, 7, 5), dtype=np.uint8)
    bits = spec.transduce(stacks_of(frames, spec.stack_shape[0]))
    assert bits.shape == (6, 3 * history, 3, 2)
    black = np.zeros((history + pictures, 7, 5), np.uint8)
    shown = np.concatenate([black, frames])
    for t, k in np.ndindex(6, history):
        last = len(black) + t - k
        expected = fires_plainly(spec.front, shown[last - pictures + 1 : last + 1])
        assert np.array_equal(bits[t, 3 * k : 3 * k + 3], expected), (t, k)
    assert 0.1 < bits.mean() < 0.9


def test_the_newest_block_is_what_enters_the_chip():
    spec = remembering(3)
    obs = episode(spec, 5, 2)
    assert np.array_equal(spec.newest(obs), spec.transduce(obs)[:, :2])
    assert (spec.stack_shape, spec.bits_shape) == ((3, 9, 7), (6, 4, 3))
    assert spec.act(obs, "Game0").tolist() == spec.run(spec.transduce(obs)).argmax(axis=1).tolist()


def test_stacks_that_do_not_reach_back_are_refused():
    with pytest.raises(SpecError, match=r"stacks of 2 pictures, must be 3 or more with a history of 3; show longer"):
        remembering(3).transduce(np.zeros((4, 2, 9, 7), np.uint8))


@pytest.mark.parametrize("history", [0, -1, 2.0])
def test_a_history_that_is_no_number_of_pictures_is_refused(history):
    with pytest.raises(SpecError, match=r"history: \S+ pictures, must be a whole number, 1 or more"):
        replace(remembering(2), history=history)


def test_the_first_layer_must_read_every_block():
    with pytest.raises(SpecError, match=r"layer0: in_shape \(4, 4, 3\), the level before gives \(6, 4, 3\)"):
        replace(remembering(2), history=3)


# ---- cores equal the spec


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(9, 40),
    st.sampled_from((1, 2, 1000)),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 999),
)
def test_a_stream_of_pictures_is_answered_as_the_spec_answers_each_stack(
    history: int, interval: int, host_copies: int, reduce: bool, pictures: int, seed: int
) -> None:
    spec = remembering(history, seed, pictures)
    compiled = compile_spec(spec, BOARD, seed, host_copies, reduce, interval)
    obs = episode(spec, 7, seed)
    assert np.array_equal(stream(compiled, spec, obs), spec.run(spec.transduce(obs)))


@pytest.mark.parametrize("kind", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize(("history", "interval"), [(2, 33), (3, 10), (4, 16)])
def test_every_spike_of_a_stream_is_the_specs_on_every_engine(history: int, interval: int, kind: Any) -> None:
    spec = remembering(history, 5)
    compiled = compile_spec(spec, TINY, reduce=True, interval=interval)
    bits = np.concatenate([spec.transduce(episode(spec, 4, seed)) for seed in (1, 2)])
    begins = np.arange(8) % 4 == 0
    chip = Verifier(spec, compiled, kind)
    assert chip.first_difference(bits[:5], begins[:5]) is None
    assert chip.first_difference(bits[5:], begins[5:]) is None, "the chip goes on where the batch before left it"
    assert first_difference(spec, compiled, bits[[6, 1, 3]], kind) is None, "whole stacks in any order"


@pytest.mark.parametrize("kind", [ENGINES["lazy"], ENGINES["dense"]], ids=["lazy", "dense"])
def test_engines_agree_on_lines_that_change_at_any_tick(kind: Any) -> None:
    graph = compile_spec(remembering(3, 5), TINY, interval=11).graph
    assert equal_runs(Emulator(graph), kind(graph), 70, seed=3) > 1000


def one_step(history: int) -> StudentSpec:
    """One layer over 24 lines a picture, every line read in every block."""
    spec = student([(9, 1, 1, 0, 1)], (2, 2, 2, 0, 1), (1, 9, 7), (3,), 1, history)
    assert (spec.layers[0].weights != 0).any(axis=0).all()
    return spec


@pytest.mark.parametrize("history", [2, 3, 4])
@pytest.mark.parametrize(("interval", "host_copies"), [(1, 1000), (15, 1), (16, 1), (30, 1), (31, 1), (33, 1)])
def test_a_line_takes_one_chain_of_relays_whatever_reads_it(history: int, interval: int, host_copies: int) -> None:
    spec = one_step(history)
    compiled = compile_spec(spec, SLOW, host_copies=host_copies, interval=interval)
    # The splitter that serves a block waits as the first relay to the next one.
    relays = 24 * (history - 1) * (ceil(interval / 15) - 1)
    stages = {stage.name: stage for stage in compiled.usage.stages}
    assert (stages["history"].relays if relays else 0) == relays
    assert compiled.usage.total.get("history cores", (0, 0))[0] == (ceil(interval / 15) - 1) * ceil(
        24 * (history - 1) / 44
    )
    assert compiled.graph.delay.max() <= 15 and compiled.latency_ticks == (1 if host_copies > 1 else 2)
    obs = episode(spec, 6, interval)
    expected = spec.run(spec.transduce(obs))
    assert np.array_equal(stream(compiled, spec, obs), expected)
    assert np.array_equal(stream(compiled, spec, obs, Emulator), expected)


def test_where_the_hosts_own_delays_reach_back_it_injects_earlier_pictures_too() -> None:
    graph = compile_spec(one_step(4), SLOW, host_copies=1000, interval=1).graph
    assert set(graph.input_delay.tolist()) == {0, 1, 2, 3}
    assert (graph.target_core < 0).all(), "votes alone leave the cores"


def test_the_host_injects_the_newest_picture_alone() -> None:
    spec = remembering(4)
    compiled = compile_spec(spec, TINY, interval=33)
    assert compiled.graph.n_inputs == spec.front.out_shape[0] * 12 == spec.bits_shape[0] * 12 // 4
    assert np.diff(compiled.graph.input_start).max() == 1


def test_what_was_seen_before_decides_and_what_lies_further_back_does_not() -> None:
    spec = remembering(3, 4)
    compiled = compile_spec(spec, TINY, interval=12)
    bits = spec.newest(episode(spec, 9, 1))
    one, other = ChipRunner(compiled), ChipRunner(compiled)
    for shown in bits[:2]:
        one.answer(shown)
    same = [np.array_equal(one.answer(shown), other.answer(shown)) for shown in bits[2:]]
    assert not all(same[:2]), "nothing was remembered"
    assert all(same[2:])


def test_a_whole_history_is_answered_alike_whatever_came_before() -> None:
    spec = remembering(3, 4)
    runner = ChipRunner(compile_spec(spec, TINY, interval=12))
    bits = spec.transduce(episode(spec, 5, 1))[[4, 2, 2, 0, 3]]
    assert np.array_equal(runner.answers(bits), spec.run(bits))
    assert runner.answers(bits[:0]).shape == (0, 3)
    assert (runner.ticks_for(bits[0]), runner.ticks_for(bits[0, :2])) == (36, 12)
    with pytest.raises(EmulationError, match=r"input: bool \[48\], must be bool \[24\]; give one value a line"):
        runner.answer(bits[0, :4])


def test_a_broken_relay_is_found_and_only_where_a_picture_follows_another() -> None:
    spec = remembering(3, 4)
    compiled = compile_spec(spec, TINY, interval=12)
    stage = next(stage for stage in compiled.usage.stages if stage.name == "history")
    none = compiled.graph.neuron_type.copy()
    none[stage.first] = 0
    broken = replace(compiled, graph=replace(compiled.graph, neuron_type=none))
    bits = spec.transduce(episode(spec, 6, 1))
    found = Verifier(spec, broken).first_difference(bits, np.arange(6) == 0)
    assert found is not None and found.layer == "layer0"
    assert Verifier(spec, compiled).first_difference(bits, np.arange(6) == 0) is None


USAGE = """\
on tiny                          used    available   share
cores                              59          143   41.3%
naive cores                        30          143   21.0%
layer cores                        30          143   21.0%
history cores                       6          143    4.2%
input fan-out cores                23          143   16.1%
"""


def test_the_usage_table_counts_the_cores_of_the_history() -> None:
    compiled = compile_spec(remembering(4), TINY, interval=33)
    text = usage_text(compiled.usage)
    assert text.startswith(USAGE)
    assert "ticks to the votes                  3           33    9.1%" in text
    first = compiled.usage.stages[0]
    assert (first.name, first.first, first.cores, first.relays) == ("history", 0, 6, 3 * 24 * 3)
    assert compiled.level[:6].tolist() == [9, 9, 18, 18, 27, 27], "relays of all blocks share cores"


# ---- what is refused


def test_votes_that_come_after_the_next_picture_are_refused() -> None:
    message = r"interval: found 2 ticks from picture to picture, must be 3 or more with a history of 2, the ticks to"
    with pytest.raises(CompileError, match=message):
        compile_spec(remembering(2), TINY, interval=2)
    assert compile_spec(remembering(2), TINY, interval=3).interval == 3
    assert compile_spec(remembering(1), TINY, interval=2).interval == 0, "without a history it does not matter"


NEAR = replace(TINY, name="near", reach=5)


@pytest.mark.parametrize("kind", [Emulator, LazyEngine])
def test_a_history_goes_on_through_repeaters(kind: Any) -> None:
    spec = remembering(2)
    compiled, within = compile_spec(spec, NEAR, interval=9), compile_spec(spec, TINY, interval=9)
    assert compiled.usage.stages[-1].name == "repeaters" and compiled.latency_ticks > within.latency_ticks
    obs = episode(spec, 12, 1)
    expected = spec.run(spec.transduce(obs))
    assert np.array_equal(stream(compiled, spec, obs, kind), expected)
    assert np.array_equal(BatchRunner(compiled).answers(spec.transduce(obs)), expected)
    assert list(compiled_violations(compiled.graph, compiled.level, compiled.interval)) == []


def test_repeaters_that_a_history_has_no_time_for_are_refused() -> None:
    with pytest.raises(CompileError, match=r"interval: found 3 ticks from picture to picture, must be 4 or more with"):
        compile_spec(remembering(2), NEAR, interval=3)
    with pytest.raises(CompileError, match=r"neuron 40: delay 10 with repeaters, allowed 1\.\.9; try another seed, a"):
        compile_spec(remembering(3), NEAR, interval=33)


def test_a_delay_off_by_a_tick_is_refused() -> None:
    compiled = compile_spec(remembering(2), TINY)
    delay = compiled.graph.delay.copy()
    delay[0, 0] -= 1
    with pytest.raises(CompileError, match=r"core 0, neuron 0: delay 8, its target is due after 9; align the delays"):
        check_compiled(replace(compiled, graph=replace(compiled.graph, delay=delay)))


# ---- files


def test_a_student_with_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec, other = remembering(3), remembering(1)
    save_spec(spec, tmp_path / "s.npz")
    read, _ = load_spec(tmp_path / "s.npz")
    assert (read.history, read.digest) == (3, spec.digest)
    save_spec(other, tmp_path / "o.npz")
    assert "history" not in read_arrays(tmp_path / "o.npz", SPEC_KIND, 1)[0], "its digest is that of older releases"
    assert load_spec(tmp_path / "o.npz")[0].history == 1


@pytest.mark.parametrize("history", [2, 0, "3"])
def test_a_student_file_of_another_history_is_refused(tmp_path: Path, history: Any) -> None:
    save_spec(remembering(3), tmp_path / "s.npz")
    facts, arrays, _ = read_arrays(tmp_path / "s.npz", SPEC_KIND, 1)
    write_arrays(tmp_path / "s.npz", SPEC_KIND, (1, 1), facts | {"history": history}, arrays)
    with pytest.raises(FormatError, match=r"(?s)s\.npz: no legal student .*(history|in_shape)"):
        load_spec(tmp_path / "s.npz")


def test_a_chip_with_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = remembering(3)
    compiled = compile_spec(spec, TINY, interval=14)
    save_compiled(compiled, tmp_path / "c.npz")
    read, _ = load_compiled(tmp_path / "c.npz")
    assert (read.history, read.interval, read.picture_ticks) == (3, 14, 14)
    assert read.usage == compiled.usage and read.digest == compiled.digest
    obs = episode(spec, 4, 1)
    assert np.array_equal(stream(read, spec, obs), spec.run(spec.transduce(obs)))


def test_a_chip_file_from_before_there_was_a_history_has_none(tmp_path: Path) -> None:
    save_compiled(compile_spec(remembering(1), TINY), tmp_path / "c.npz")
    facts, arrays, _ = read_arrays(tmp_path / "c.npz", KIND, VERSION[0])
    older = {name: value for name, value in facts.items() if name not in ("history", "interval_ticks")}
    write_arrays(tmp_path / "c.npz", KIND, (1, 1), older, arrays)
    read, _ = load_compiled(tmp_path / "c.npz")
    assert (read.history, read.interval, read.picture_ticks) == (1, 0, read.latency_ticks)


@pytest.mark.parametrize(("history", "interval"), [(1, 14), (3, 0), (3, 2), (0, 14)])
def test_a_chip_file_whose_history_cannot_be_is_refused(tmp_path: Path, history: int, interval: int) -> None:
    save_compiled(compile_spec(remembering(3), TINY, interval=14), tmp_path / "c.npz")
    facts, arrays, _ = read_arrays(tmp_path / "c.npz", KIND, VERSION[0])
    wrong = facts | {"history": history, "interval_ticks": interval}
    write_arrays(tmp_path / "c.npz", KIND, VERSION, wrong, arrays)
    message = (
        rf"c\.npz: no legal compiled student \(history, interval: {history} pictures, {interval} ticks apart, must"
    )
    with pytest.raises(FormatError, match=message):
        load_compiled(tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["m.json", "m.ranc.json"])
def test_a_history_survives_the_terms_of_others(name: str, tmp_path: Path) -> None:
    spec = remembering(3)
    save_compiled(compile_spec(spec, TINY, interval=14), tmp_path / "c.npz")
    for arguments in (("c.npz", name), (name, "back.npz", "--as-chip", "c.npz")):
        assert convert.main([part if part[:2] == "--" else str(tmp_path / part) for part in arguments]) == 0
    read, _ = load_compiled(tmp_path / "back.npz")
    obs = episode(spec, 4, 1)
    assert np.array_equal(stream(read, spec, obs), spec.run(spec.transduce(obs)))


# ---- in play


def pong(history: int = 4) -> StudentSpec:
    """A student of Pong whose front sees one picture."""
    layers = [(24, 5, 3, 0, 4), (40, 3, 1, 0, 2), (48, 1, 1, 0, 1)]
    drawn = student(layers, (4, 8, 8, 2, 1), (1, 84, 84), (6,), 5, history)
    return replace(drawn, heads=small_student().heads)


@pytest.fixture(scope="module")
def chip() -> Compiled:
    return compile_spec(pong(), CHIPS["ns1e"], reduce=True)


def test_a_chip_plays_what_the_spec_plays_from_the_first_decision_of_every_episode(chip: Compiled) -> None:
    spec, game = pong(), ScalarGame("Pong", replace(ENV, max_frames=90), 3)
    ours, theirs = ChipPlayer(spec, chip, "Pong"), SpecPlayer(spec, "Pong")
    begins, chosen = True, []
    for moment in islice(moments(game, RandomPlayer(6, 3)), 60):
        if begins:
            ours.reset()
        chosen.append(ours.act(moment.obs))
        assert chosen[-1] == theirs.act(moment.obs)
        assert ours.votes is not None and np.array_equal(ours.votes, theirs.votes)
        begins = moment.step.ended
    assert len(set(chosen)) > 1, "a player of one action proves little"


def test_the_first_decision_takes_an_interval_for_each_picture_and_the_others_one(chip: Compiled) -> None:
    player, obs = ChipPlayer(pong(), chip, "Pong"), np.zeros((4, 84, 84), np.uint8)
    ticks = []
    for again in (True, False, False, True):
        before = player.ticks
        if again:
            player.reset()
        player.act(obs)
        ticks.append(player.ticks - before)
    assert ticks == [132, 33, 33, 132]


@pytest.fixture
def root(tmp_path: Path, chip: Compiled) -> Path:
    save_spec(pong(), tmp_path / "Pong" / STUDENT)
    save_compiled(chip, tmp_path / "Pong" / CHIP)
    return tmp_path


def test_build_takes_the_interval_and_reports_it(root: Path) -> None:
    own = build.ChipSettings("ns1e", 0, 1, (), 17, (), splitters=True)
    assert build.command(build.BuildRun(("Pong",), str(root), own)) == 0
    facts = json.loads((root / "Pong" / "chip" / "report.json").read_text())
    assert (facts["history"], facts["interval_ticks"]) == (4, 17)
    assert load_compiled(root / "Pong" / CHIP)[0].picture_ticks == 17
    with pytest.raises(SettingsError, match=r"chip.broken_routers: found \(\(1,\),\), allowed pairs \[x, y\]"):
        replace(own, broken_routers=((1,),))
    with pytest.raises(SettingsError, match=r"chip.interval: found 0, allowed 1 or more ticks"):
        replace(own, interval=0)


def a_verify(root: Path, decisions: int) -> verify.VerifyRun:
    return verify.VerifyRun(("Pong",), str(root), ENV, verify.VerifySettings(decisions, 2, seed=1))


def test_verify_plays_a_history_in_order_where_there_is_no_dataset(root: Path, capsys: Any) -> None:
    assert verify.command(a_verify(root, 12)) == 0
    assert "Pong: spec = cores on 12 decisions" in capsys.readouterr().out


def test_verify_plays_whole_recorded_episodes_in_order(root: Path, capsys: Any) -> None:
    record_rollouts(root / "Pong" / "rollouts", [5, 9, 4])
    assert verify.command(a_verify(root, 14)) == 0
    assert "Pong: spec = cores on 14 decisions" in capsys.readouterr().out


def test_recorded_episodes_follow_each_other_and_each_begins_once(root: Path) -> None:
    record_rollouts(root / "Pong" / "rollouts", [5, 9, 4])
    rollouts = Rollouts.open(root / "Pong" / "rollouts")
    rows = verify.in_order(rollouts, np.random.default_rng(1), 12)
    _, begins = verify.recorded(a_verify(root, 12), "Pong", pong())
    assert len(rows) == 12 and begins[0]
    assert begins.tolist() == [bool(row in rollouts.episodes.start) for row in rows]
    assert all(begins[1:] | (np.diff(rows) == 1)), "a decision follows the one before it or begins an episode"
    every = verify.in_order(rollouts, np.random.default_rng(2), 99)
    assert sorted(every) == rollouts.decisions.tolist(), "each decision once, and no more than there are"
    orders = {tuple(verify.in_order(rollouts, np.random.default_rng(seed), 12)) for seed in range(9)}
    assert len(orders) > 1


def test_a_chip_with_a_history_is_scored_alike_at_once_and_one_by_one(root: Path) -> None:
    """By the votes of every decision: short episodes of Pong all end alike."""
    rules, said = Protocol("short", replace(ENV, max_frames=200), 0.5, 2, 50), list[NDArray[np.int64]]()
    job = GameRun("Pong", str(root), ScoreSettings(("chip",), "nature", 2, 50, 1, 0.0, again=False))
    act, _ = score._chip(job)

    def heard(stacks: Any) -> NDArray[np.int64]:
        said.append(act(stacks))
        return said[-1]

    evaluate(heard, "Pong", rules, 1, "chip")
    game, alone = ScalarGame("Pong", rules.env, rules.seed), list[int]()
    player = Epsilon(Heard(ChipPlayer(pong(), load_compiled(root / "Pong" / CHIP)[0], "Pong"), alone), 0.5, 6, 50)
    for moment in moments(game, player):
        if moment.step.ended:
            break
    assert alone == [int(actions[0]) for actions in said[: len(alone)]]
    assert len(alone) > 30 and len(set(alone)) > 1


class Heard:
    """A player whose choices are kept, before any stray."""

    def __init__(self, player: ChipPlayer, kept: list[int]) -> None:
        self._player, self._kept = player, kept

    def reset(self) -> None:
        self._player.reset()

    def act(self, obs: Frames) -> int:
        self._kept.append(self._player.act(obs))
        return self._kept[-1]


def test_inspect_shows_the_history_as_a_stage_of_its_own(root: Path, capsys: Any) -> None:
    record_rollouts(root / "r", [5, 9])
    own: Sequence[Any] = (root / "Pong" / CHIP, "--out", root / "o", "--frames", 4, "--rollouts", root / "r")
    assert run_inspect(own) == 0
    said = capsys.readouterr().out
    assert "history cores" in said and "4 held pictures" in said
    assert {path.name for path in (root / "o").iterdir()} >= {"floorplan.png", "activity.png", "report.json"}
    subject = inspect.open_subject(root / "Pong" / CHIP, "ns1e", 0)
    lines = inspect.recorded_lines(subject, root / "r", root / "Pong" / STUDENT, 4, 0)
    assert lines.shape == (4, subject.graph.n_inputs) and 0 < lines.mean() < 1


def run_inspect(arguments: Sequence[Any]) -> int:
    try:
        inspect.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_relays_carry_what_the_host_injected(chip: Compiled) -> None:
    # The same picture over and over: in a mean tick every relay of a line spikes as often as the line.
    lines = np.random.default_rng(0).random(chip.graph.n_inputs) < 0.3
    found = record_held(LazyEngine(chip.graph), np.stack([lines] * 6), chip.picture_ticks)
    stage = next(stage for stage in chip.usage.stages if stage.name == "history")
    history = found.spikes[stage.first : stage.first + stage.cores].sum()
    settled = found.spikes[stage.first : stage.first + stage.cores].max(axis=1)
    assert 0.15 < history / stage.relays < 0.35
    assert settled.max() == 1.0
