"""A student learns on in the game from what its actions were worth; it is replaced only by a better one."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distill_cases import SHORT, linked, prepared, teacher, tiny_run

from deploy.spec import load_spec
from distill import finetune as tuning
from distill.actor import Actor, Played, advantages, policy_gradient
from distill.finetune import Finetuner, FinetuneRun, FinetuneSettings, command
from distill.latent import load_latent
from distill.learner import Goal
from distill.sharing import WHOLE
from distill.train import command as distil
from rl.files import write_json
from rl.frames import pixels
from rl.scores import Score, protocol
from rl.settings import SettingsError

TINY = FinetuneSettings(
    seed=3,
    updates=4,
    envs=2,
    rollout_steps=8,
    batch=8,
    learning_rate=0.0625,
    bias_rate=0.5,
    gamma=0.99,
    trace=0.5,
    entropy=0.01,
    anchor=0.1,
    temperature=0.5,
    play_temperature=0.5,
    still_levels=0,
    hysteresis=0.1,
    surrogate_width=1.0,
    threads=1,
    bf16=True,
    log_updates=2,
    checkpoint_s=1e9,
    eval_updates=2,
    eval_episodes=2,
    report_episodes=2,
    epsilon=0.0,
)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = prepared(tmp_path_factory.mktemp("ready"), "Pong")
    assert distil(tiny_run(root, mode="offline", updates=3), "") == 0
    return root


@pytest.fixture
def config(ready: Path, tmp_path: Path) -> FinetuneRun:
    root = linked(ready, tmp_path / "root")
    (root / "Pong" / "student").mkdir()
    for name in ("student.npz", "latent.safetensors", "report.json"):
        (root / "Pong" / "student" / name).write_bytes((ready / "Pong" / "student" / name).read_bytes())
    return FinetuneRun("Pong", str(root), SHORT, TINY)


def begun(config: FinetuneRun) -> Finetuner:
    """A run before its first update."""
    tuner = Finetuner(config)
    tuner.begin()
    return tuner


def plain_advantages(reward, discount, value, trace):
    """Equation 16 of Schulman et al. 2016, term by term."""
    found = np.zeros_like(reward)
    for t in range(len(reward)):
        weight = 1.0
        for k in range(t, len(reward)):
            found[t] += weight * (reward[k] + discount[k] * value[k + 1] - value[k])
            weight *= discount[k] * trace
    return found


def test_advantages_are_those_of_the_plain_sum_and_end_with_an_episode():
    rng = np.random.default_rng(1)
    reward, value = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    discount = np.full((5, 3), 0.9, np.float32)
    discount[2, 1] = 0
    found = advantages(reward, discount, value, 0.8)
    assert np.allclose(found, plain_advantages(reward, discount, value, 0.8), atol=1e-5)
    later = reward.copy()
    later[3:, 1] += 100
    changed = advantages(later, discount, value, 0.8)
    assert np.array_equal(changed[:3, 1], found[:3, 1]) and not np.array_equal(changed[:3, 0] + 1, found[:3, 0])


def decision(action, advantage, actions=2):
    """One that was played, of equal labels."""
    own = {"action": torch.tensor([action]), "advantage": torch.tensor([advantage])}
    return Played(torch.zeros(1), torch.ones(1, actions), **own)


def test_the_loss_of_a_row_is_worked_by_hand():
    logits, row = torch.log(torch.tensor([[0.25, 0.75]])), decision(1, 2.0)
    spread = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    pull = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    found = policy_gradient(0.5, 0.25, 1.0, 1.0)(logits, row).item()
    assert found == pytest.approx(-2 * math.log(0.75) - 0.5 * spread + 0.25 * pull)
    assert policy_gradient(0.0, 0.0, 1.0, 1.0)(logits, row).item() == pytest.approx(-2 * math.log(0.75))


def test_the_policy_that_is_learnt_is_the_one_that_played(config):
    tuner = Finetuner(config)
    stacks = np.random.default_rng(2).integers(256, size=(3, 21, 21, 64), dtype=np.uint8)
    plain = Finetuner(replace(config, finetune=replace(TINY, play_temperature=1.0)))
    torch.testing.assert_close(tuner._seen(stacks)[0], plain._seen(stacks)[0] / 0.5)
    found = policy_gradient(0.0, 0.0, 1.0, 0.5)(torch.tensor([[0.0, math.log(3) / 2]]), decision(1, 2.0))
    assert found.item() == pytest.approx(-2 * math.log(0.75))
    tuner.close(), plain.close()


@pytest.mark.parametrize("still", [0, 1, 2])
def test_what_still_levels_say_is_not_worked_out_again_and_is_learnt_from_alike(config, still):
    tuner = begun(replace(config, finetune=replace(TINY, still_levels=still)))
    played = tuner._rollout()
    assert (played.known is None) == (still == 0)
    goal = Goal(policy_gradient(0.0, 0.0, 1.0, TINY.play_temperature), 0.0, 0)

    def gradients(lesson):
        tuner.learner.finish(tuner.learner.begin([lesson], goal), goal)
        return [own.grad.clone() for own in tuner.student.parameters() if own.grad is not None]

    seen, remembered = gradients(replace(played, known=None)), gradients(played)
    assert seen and any(bool(own.any()) for own in seen)
    assert all(torch.equal(one, other) for one, other in zip(seen, remembered, strict=True))
    tuner.close()


def test_each_decision_of_a_rollout_is_learnt_once(config):
    tuner = begun(config)
    parts = tuner._play()
    rows = {row.tobytes() for part in parts for row in torch.cat([part.q, part.advantage[:, None]], 1).numpy()}
    assert len(rows) == TINY.envs * TINY.rollout_steps == sum(len(part.q) for part in parts)
    assert all(part.unit == tuner.unit for part in parts)
    tuner.close()


def test_how_sharp_votes_are_is_not_learnt(config):
    tuner = begun(config)
    before = tuner.student.log_scale.clone()
    tuner.step()
    assert torch.equal(tuner.student.log_scale, before)
    tuner.close()


def test_a_better_action_becomes_likelier():
    logits = torch.zeros(1, 3, requires_grad=True)
    policy_gradient(0.0, 0.0, 1.0, 1.0)(logits, decision(2, 1.0, actions=3)).backward()
    assert logits.grad[0, 2] < 0 < logits.grad[0, 0]


def test_parts_of_what_was_played_keep_their_rows_together():
    number, bits = torch.arange(6), torch.arange(6, dtype=torch.uint8)[:, None]
    own = {"action": number, "advantage": number.float(), "known": bits}
    whole = Played(number, number.float()[:, None], 2.0, **own)
    for part, rows in ((whole.cut(2, 5), [2, 3, 4]), (whole.rows(torch.tensor([5, 1])), [5, 1])):
        assert part.cells.tolist() == part.action.tolist() == part.advantage.tolist() == rows
        assert part.known.flatten().tolist() == part.q.flatten().tolist() == rows
        assert part.unit == 2


def test_its_own_play_is_told_by_points_of_a_thousand_decisions_and_by_whole_games(config, monkeypatch):
    tuner = Finetuner(config)
    steps, rewards = tuner._actor._games.step, iter(np.arange(16.0))

    def step(action):
        return replace(steps(action), reward=np.full(TINY.envs, next(rewards), np.float32))

    monkeypatch.setattr(tuner._actor._games, "step", step)
    assert tuner.own_score() == {}
    for points in (3.5, (3.5 + 11.5) / 2):
        tuner._rollout()
        assert tuner.own_score()["online/Pong_points"] == pytest.approx(1000 * points)
    tuner._actor.returns = [3.0, 8.0]
    assert tuner.own_score()["online/Pong"] == 5.5
    tuner.close()


def test_equal_seeds_play_equal_rollouts_and_other_seeds_do_not(tmp_path):
    policy = teacher("Pong", tmp_path)

    def played(seed):
        actor = Actor(policy, SHORT, 3, seed)
        try:
            return [actor.rollout(lambda stacks: (torch.zeros(len(stacks), 6), None), 7, 0.99, 0.9) for _ in range(2)]
        finally:
            actor.close()

    one, same, other = played(1), played(1), played(2)
    assert all(
        torch.equal(a.action, b.action) and torch.equal(a.cells, b.cells) for a, b in zip(one, same, strict=True)
    )
    assert not torch.equal(one[0].action, other[0].action)
    assert one[0].cells.shape == (21, 21, 21, 64) and set(one[0].action.tolist()) <= set(range(6))
    assert abs(one[0].advantage.mean()) < 1e-5 and one[0].advantage.std() == pytest.approx(1, abs=0.1)


def scripted(monkeypatch, *means):
    """Scores in the order in which they are asked for; and the seeds that they were asked with."""
    left, seeds = iter(means), []

    def score(config, spec, episodes, seed):
        seeds.append(seed)
        return Score("Pong", "student", protocol("nature", 1, 0), (next(left),))

    monkeypatch.setattr(tuning, "score", score)
    return seeds


def test_a_better_student_takes_the_place_of_the_one_it_began_as(config, monkeypatch, capsys):
    # Before; after 2 and 4 updates; then the two side by side on seeds that chose neither.
    seeds = scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    begun = load_spec(config.distilled / "student.npz")[0].digest
    assert command(config, "") == 0
    spec, origin = load_spec(config.distilled / "student.npz")
    assert origin["finetuned"]["update"] == 2 and origin["finetuned_from"] == begun != spec.digest
    assert load_latent(config.distilled / "latent.safetensors")[1] == spec.digest
    assert load_spec(config.folder / "before" / "student.npz")[0].digest == begun
    report = json.loads((config.distilled / "report.json").read_text())
    assert report["spec"] == spec.digest and report["scores"]["Pong"]["mean"] == 0.75 and "settings" in report
    assert len({seeds[0], seeds[3]}) == 2 and seeds[0] == seeds[1] and seeds[3] == seeds[4]
    assert "0.50 before, 0.75 after; taken; run make compile" in capsys.readouterr().out


def test_the_command_that_distilled_a_student_that_learned_on_tells_it_and_changes_nothing(
    ready, config, monkeypatch, capsys
):
    state = "state.safetensors"
    (config.distilled / state).write_bytes((ready / "Pong" / "student" / state).read_bytes())
    scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    assert command(config, "") == 0
    kept = {name: (config.distilled / name).read_bytes() for name in ("student.npz", "report.json")}
    report = json.loads(kept["report.json"])
    gain = (0.75 + 20.7) / 1.0 if report["shares"]["Pong"] > 1 else report["shares"]["Pong"]
    assert report["shares"]["Pong"] == pytest.approx(gain, rel=0.2) and report["finetuned"]["updates"] == 4
    assert distil(tiny_run(Path(config.root), mode="offline", updates=3), "") == 0
    assert {name: (config.distilled / name).read_bytes() for name in kept} == kept
    assert "Pong student: 0.75 over 1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize("means", [(1.0, 3.0, 2.0, 0.5, 0.5), (1.0, 1.0, 0.0, 0.5)], ids=["no better", "never passed"])
def test_a_student_that_is_no_better_replaces_nothing(config, monkeypatch, capsys, means):
    scripted(monkeypatch, *means)
    before = {path.name: path.read_bytes() for path in config.distilled.iterdir()}
    assert command(config, "") == 0
    assert {path.name: path.read_bytes() for path in config.distilled.iterdir()} == before
    assert "not taken: the distilled student stays" in capsys.readouterr().out
    assert json.loads((config.folder / "report.json").read_text())["taken"] is False


def test_a_run_goes_on_where_it_stopped_and_not_from_another_student(config, monkeypatch, tmp_path):
    scripted(monkeypatch, 1.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(tuning, "Stop", lambda: StopAfter(2))
    assert command(config, "") == 143
    tuner = Finetuner(config)
    tuner.resume(config.folder / "state.safetensors")
    tuner.close()
    assert (tuner.update, tuner.best) == (2, 1.0)
    monkeypatch.setattr(tuning, "Stop", lambda: StopAfter(10**9))
    scripted(monkeypatch, 0.0, 0.0, 0.0)
    assert command(config, "") == 0
    other = replace(config, root=str(tmp_path / "other"))
    (tmp_path / "other").symlink_to(config.root)
    moved = Finetuner(other)
    own = moved.begun.spec
    moved.begun = replace(moved.begun, spec=replace(own, vote=own.vote[::-1].copy()))
    with pytest.raises(SettingsError, match=r"begun from another student; remove .*finetuned to begin anew"):
        moved.resume(config.folder / "state.safetensors")
    moved.close()


class StopAfter:
    """A stop that comes after so many looks."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left < 0

    def status(self) -> int:
        return 143

    def restore(self) -> None: ...


def hidden(tuner: Finetuner) -> list[torch.Tensor]:
    return [level.hidden.detach().clone() for level in tuner.student.normalised]


@pytest.mark.parametrize("still", [0, 2])
def test_levels_that_stand_still_keep_their_weights_and_the_others_learn(config, still):
    tuner = begun(replace(config, finetune=replace(TINY, still_levels=still)))
    before = hidden(tuner)
    for _ in range(2):
        tuner.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, hidden(tuner), strict=True)]
    assert moved == [index >= still for index in range(len(before))]
    tuner.close()


def test_what_learns_is_the_very_function_that_is_folded(config):
    tuner = begun(config)
    means = [level.mean.clone() for level in tuner.student.normalised]
    for _ in range(3):
        tuner.step()
    assert all(torch.equal(a, level.mean) for a, level in zip(means, tuner.student.normalised, strict=True))
    cells = torch.randint(0, 256, (5, 21, 21, 64), dtype=torch.uint8)
    with torch.no_grad():
        *_, last = tuner.student.levels(cells, WHOLE)
        votes = tuner.student.count(last.permute(0, 3, 1, 2)).numpy()
    spec = tuner.folded()
    assert np.array_equal(spec.run(spec.transduce(pixels(cells.numpy()))), votes)
    tuner.close()


def test_a_student_of_which_nothing_has_moved_is_not_judged_again(config, monkeypatch, capsys):
    seeds = scripted(monkeypatch, 1.0, 0.5)  # before, and on the seeds that would decide
    assert command(replace(config, finetune=replace(TINY, learning_rate=1e-9, bias_rate=1.0)), "") == 0
    told = capsys.readouterr().out
    assert "update 4: no weight and no threshold has moved yet; it plays as it began" in told
    assert "nothing passed it" in told
    assert len(seeds) == 2


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_thresholds_move_by_their_share_of_the_rate(config, share):
    tuner = Finetuner(replace(config, finetune=replace(TINY, bias_rate=share)))
    tuner.begin()
    last = list(tuner.student.normalised)[-1]
    before = last.bias.detach().clone()
    tuner.step()
    # The first step of Adam is the whole rate, whatever the gradient's size.
    assert float((last.bias.detach() - before).abs().max()) == pytest.approx(TINY.learning_rate * share, rel=1e-3)
    tuner.close()


def test_at_least_the_votes_must_go_on_learning(config):
    most = len(list(load_spec(config.distilled / "student.npz")[0].layers))
    with pytest.raises(SettingsError, match=rf"finetune.still_levels: found {most + 1}, allowed 0 to {most}"):
        Finetuner(replace(config, finetune=replace(TINY, still_levels=most + 1)))


def ship(config, monkeypatch) -> Path:
    """The distilled student's integers alone, as they ship: beside a card, and nothing in the run."""
    there, models = config.distilled, Path(config.root) / "models"
    facts = json.loads((there / "report.json").read_text())
    card = {"student": {k: facts[k] for k in ("spec", "updates", "settings", "origin")}}
    write_json(models / "Pong" / "card.json", card)
    (models / "Pong" / "student.npz").write_bytes((there / "student.npz").read_bytes())
    shutil.rmtree(there)
    monkeypatch.setattr("rl.stages.find.__defaults__", (models,))
    return models / "Pong" / "student.npz"


def test_integers_alone_learn_on_as_the_very_function_that_they_are(config, monkeypatch):
    shipped = load_spec(ship(config, monkeypatch))[0]
    tuner = Finetuner(config)
    untold = tuner.student.log_scale.clone()
    tuner.begin()
    assert tuner.folded().digest == tuner.begun.spec.digest == shipped.digest
    assert not torch.equal(tuner.student.log_scale, untold)
    level = list(tuner.student.normalised)[1]
    assert level.mean.abs().max() > 0 and level.variance.std() > 0
    tuner.step()
    tuner.close()
    assert tuner.folded().digest != shipped.digest


def test_a_better_student_than_the_one_that_ships_becomes_the_runs_and_a_second_run_begins_as_that_one_again(
    config, monkeypatch
):
    shipped = ship(config, monkeypatch)
    scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    assert command(config, "") == 0
    spec, origin = load_spec(config.distilled / "student.npz")
    begun = load_spec(shipped)[0].digest
    assert origin["finetuned_from"] == begun != spec.digest
    assert load_latent(config.distilled / "latent.safetensors")[1] == spec.digest
    report = json.loads((config.distilled / "report.json").read_text())
    assert (report["what"], report["spec"], report["updates"]) == ("student", spec.digest, 3)
    assert report["finetuned"]["begun"] == begun and report["scores"]["Pong"]["mean"] == 0.75
    assert (config.folder / "before" / "student.npz").read_bytes() == shipped.read_bytes()
    again = Finetuner(config)
    again.resume(config.folder / "state.safetensors")
    again.close()
    assert again.begun.spec.digest == begun and again.begun.unfolded


def test_another_student_that_was_distilled_since_is_not_replaced_by_an_older_one(config, monkeypatch):
    scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    assert command(config, "") == 0
    path, report = config.distilled / "student.npz", config.distilled / "report.json"
    spec, origin = load_spec(config.folder / "before" / "student.npz")
    last = spec.layers[-1]
    other = replace(spec, layers=(*spec.layers[:-1], replace(last, leak=last.leak + 1)))
    tuning.save_spec(other, path, origin)
    write_json(report, json.loads(report.read_text()) | {"spec": other.digest})
    (config.distilled / "latent.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"begun from another student; remove .*finetuned to begin anew"):
        command(config, "")
    assert load_spec(path)[0].digest == other.digest
    (config.folder / "state.safetensors").unlink()
    scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    assert command(config, "") == 0
    assert load_spec(config.folder / "before" / "student.npz")[0].digest == other.digest


def test_a_finished_run_tells_what_it_found_by_the_settings_that_it_learned_by(config, monkeypatch):
    scripted(monkeypatch, 1.0, 3.0, 2.0, 0.5, 0.75)
    assert command(config, "") == 0
    kept = [(folder / "report.json").read_bytes() for folder in (config.folder, config.distilled)]
    scripted(monkeypatch)
    assert command(replace(config, finetune=replace(config.finetune, learning_rate=0.5)), "") == 0
    assert [(folder / "report.json").read_bytes() for folder in (config.folder, config.distilled)] == kept


def test_a_run_that_goes_on_plays_other_games_in_the_unit_that_was_measured_at_first(config, monkeypatch):
    scripted(monkeypatch, 0.0, 0.0)
    monkeypatch.setattr(tuning, "Stop", lambda: StopAfter(2))
    command(config, "")
    again = Finetuner(config)
    fresh, state = again._rollout(), config.folder / "state.safetensors"
    again.resume(state)
    assert not torch.equal(again._rollout().cells, fresh.cells)
    unit = again.unit
    again.close()
    other = begun(config)
    other.close()
    assert unit == other.unit > 0


def test_integers_whose_layers_nothing_tells_cannot_learn_on(config):
    (config.distilled / "latent.safetensors").unlink()
    (config.distilled / "report.json").unlink()
    found = r"student.npz: no report of this student beside it tells its layers; run make distill GAMES=Pong"
    with pytest.raises(SettingsError, match=found):
        Finetuner(config)


def test_hidden_weights_of_another_spec_are_refused(config):
    spec, origin = load_spec(config.distilled / "student.npz")
    tuning.save_spec(replace(spec, vote=spec.vote[::-1].copy()), config.distilled / "student.npz", origin)
    with pytest.raises(SettingsError, match=r"folds to another spec than student.npz; run make distill again"):
        Finetuner(config)


WRONG = [
    ("updates", 0, "1 or more"),
    ("gamma", 1.5, "0 to 1"),
    ("still_levels", -1, "0 or more"),
    ("seed", -1, "0 or more"),
    ("entropy", -0.5, "0 or more"),
    ("bias_rate", -0.5, "0 or more"),
    ("learning_rate", 0.0, "above 0"),
    ("batch", 7, r"a divisor of envs \* rollout_steps \(16\)"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_settings_that_cannot_be_are_refused_by_name(name, value, allowed):
    with pytest.raises(SettingsError, match=rf"finetune.{name}: found {value!r}, allowed {allowed}"):
        replace(TINY, **{name: value})
