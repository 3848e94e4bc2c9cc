"""Every config composes for every game and becomes its command's settings; every key is read; a slip is named."""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import sys
import typing
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from run_cases import ROOM, command_line, files_in, write_run

from deploy.build import BuildRun
from deploy.faults import FaultRun
from deploy.play import PlayRun
from deploy.publish import PublishRun
from deploy.publish_many import PublishManyRun
from deploy.rerun import ReplayRun
from deploy.score import ScoreRun
from deploy.verify import VerifyRun
from distill import verify as distill_verify
from distill.faq import IntegerRun
from distill.finetune import FinetuneRun
from distill.train import DistillRun
from rl.collect import RolloutRun
from rl.command import launch, run, settings
from rl.scores import rules_of
from rl.settings import SettingsError
from rl.trainer import TeacherRun

CONF = ROOM / "conf"
KINDS = {
    "teacher": [TeacherRun],
    "rollouts": [RolloutRun],
    "distill": [DistillRun],
    "finetune": [FinetuneRun],
    "integers": [IntegerRun],
    "build": [BuildRun],
    "verify": [VerifyRun, distill_verify.VerifyRun],
    "score": [ScoreRun],
    "faults": [FaultRun],
    "play": [PlayRun],
    "replay": [ReplayRun],
    "publish": [PublishRun],
    "publish_many": [PublishManyRun],
}
MODULES = {
    "deploy.build": "build",
    "deploy.verify": "verify",
    "deploy.score": "score",
    "deploy.faults": "faults",
    "deploy.play": "play",
}
# The others take games=[...].
ONE_GAME = ("teacher", "rollouts", "finetune", "integers", "score", "faults", "play", "replay", "publish")
GAMES = (*sorted(path.stem for path in (CONF / "game").glob("*.yaml")), "Zaxxon")  # the last has no file
ROOTS = [(root, game) for root in KINDS for game in (GAMES if root in ONE_GAME else GAMES[:1])]


@cache
def composed(root, *overrides, conf=CONF):
    """(the resolved tree without hydra's own section, that section)."""
    with initialize_config_dir(str(conf), version_base=None):
        whole = compose(root, list(overrides), return_hydra_config=True)
    OmegaConf.set_readonly(whole.hydra, False)
    whole.hydra.job.num, whole.hydra.job.id = 0, "0"  # known once a job runs
    HydraConfig.instance().set_config(whole)
    tree = OmegaConf.to_container(whole, resolve=True)
    return {key: value for key, value in tree.items() if key != "hydra"}, tree["hydra"]


def for_game(root, game):
    return [f"game={game}"] if root in ONE_GAME else [f"games=[{game}]"]


@pytest.mark.parametrize("size", ["full", "smoke"])
@pytest.mark.parametrize(("root", "game"), ROOTS)
def test_every_root_composes_for_every_game_and_becomes_settings(root, game, size):
    if size == "smoke" and root.startswith("publish"):
        assert not (CONF / "smoke" / f"{root}.yaml").exists(), "what a smoke run makes must not ship"
        return
    smoke = [f"smoke={root}"] if size == "smoke" else []
    tree, hydra = composed(root, *for_game(root, game), *smoke)
    for kind in KINDS[root]:
        made = settings(kind, tree)
        assert made.root == ("runs/smoke" if smoke else "runs")
        assert getattr(made, "name", None) == game or made.games == (game,)
    assert (hydra["run"]["dir"], hydra["output_subdir"]) == (".", None)  # nothing is written beside the run
    assert hydra["job"]["chdir"] in (None, False)


@pytest.mark.parametrize("root", [root for root in KINDS if not root.startswith("publish")])
def test_there_is_a_smoke_overlay_of_every_root_and_it_only_changes_what_is_there(root):
    plain, _ = composed(root, *for_game(root, "Zaxxon"))
    smoke, _ = composed(root, *for_game(root, "Zaxxon"), f"smoke={root}")
    assert plain != smoke
    assert set(leaves(plain)) == set(leaves(smoke))


@pytest.mark.parametrize("game", GAMES[:-1])
def test_a_game_file_only_changes_what_is_there(game):
    held = {path for path, _ in pairs(yaml.safe_load((CONF / "game" / f"{game}.yaml").read_text()) or {})}
    known = {path for root in KINDS for path in leaves(composed(root)[0])}
    assert held <= known


def test_a_game_file_holds_what_differs_and_nothing_else():
    for game in GAMES[:-1]:
        for path, value in pairs(yaml.safe_load((CONF / "game" / f"{game}.yaml").read_text()) or {}):
            for root in ONE_GAME:
                general = dict(pairs(composed(root, "game=Zaxxon")[0]))
                assert path not in general or general[path] != value, f"{game}: {path} says what holds anyway"


def pairs(tree, path=""):
    """(dotted path, value) of every leaf; a list counts as one, its groups once each."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from pairs(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
            for item in value if isinstance(value, list) else []:
                if isinstance(item, dict):
                    yield from pairs(item, f"{path}{key}.")


def leaves(tree):
    return [path for path, _ in pairs(tree)]


def fields_of(kind):
    """(class, field name) of a settings class and of all in it."""
    for name, hint in typing.get_type_hints(kind).items():
        yield kind, name
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from fields_of(inner)


FIELDS = sorted({(kind.__module__, kind.__qualname__, name) for kinds in KINDS.values() for kind in kinds
                 for kind, name in fields_of(kind)})  # fmt: skip


@cache
def attributes_read():
    """name -> places where code reads an attribute of that name: (file, innermost class)."""
    read = {}
    for path in [p for room in ("rl", "distill", "deploy") for p in (ROOM / room).rglob("*.py")]:
        for owner, node in walk(ast.parse(path.read_text()), None):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.setdefault(node.attr, set()).add((path.stem, owner))
    return read


def walk(node, owner):
    for child in ast.iter_child_nodes(node):
        inner = "post_init" if isinstance(child, ast.FunctionDef) and child.name == "__post_init__" else owner
        yield inner, child
        yield from walk(child, inner)


@pytest.mark.parametrize(("module", "kind", "name"), FIELDS, ids=lambda value: value)
def test_every_setting_is_read_by_more_than_its_own_check(module, kind, name):
    readers = {place for place in attributes_read().get(name, ()) if place[1] != "post_init"}
    assert readers, f"{module}.{kind}.{name} is checked and stored, and decides nothing"


def test_every_key_of_every_file_is_a_setting():
    for root, kinds in KINDS.items():
        tree, _ = composed(root)
        for kind in kinds:
            settings(kind, tree)  # strict both ways: a key without a field and a field without a key are errors


@pytest.mark.parametrize("root", KINDS)
def test_no_setting_has_the_name_of_a_group_that_its_command_does_not_choose_from(root):
    raw = yaml.safe_load((CONF / f"{root}.yaml").read_text())
    chosen = {name.split()[-1] for item in raw["defaults"] if isinstance(item, dict) for name in item}
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}  # hydra's own section
    assert not set(raw) & groups - chosen, "hydra takes it for the group: nobody can set it"


def test_a_student_of_several_games_can_be_named_for_scoring():
    assert composed("score", "games=[Pong,Breakout]", "several=Pong-Breakout")[0]["several"] == "Pong-Breakout"


@pytest.mark.parametrize(
    ("said", "frames"),
    [
        ([], 10_000_000),
        (["game=Freeway"], 5_000_000),
        (["teacher.train_frames=2_000_000"], 2_000_000),
        (["teacher.train_frames=2_000_000", "teacher.rate_decay_frames=500_000"], 500_000),
    ],
)
def test_a_teachers_learning_rate_falls_over_all_its_frames_unless_told_otherwise(said, frames):
    assert composed("teacher", *said)[0]["teacher"]["rate_decay_frames"] == frames


def test_many_envs_fit_a_teacher_without_a_replay():
    said = "teacher.algo=pqn", "teacher.envs=1024", "teacher.agent.batch=1024"
    assert settings(TeacherRun, composed("teacher", *said)[0]).teacher.envs == 1024


def test_the_preset_of_pqn_is_one_that_a_teacher_takes_and_a_game_says_the_rest():
    made = settings(TeacherRun, composed("teacher", "algo=pqn", "game=Pong")[0]).teacher
    assert (made.algo, made.envs, made.agent.batch, made.rate_decay_frames) == ("pqn", 64, 64, 20_000_000)
    assert made.epsilon_decay_frames == 400_000, "the game's own"
    small = settings(TeacherRun, composed("teacher", "algo=pqn", "game=Pong", "smoke=teacher")[0]).teacher
    assert (small.algo, small.train_frames, small.agent.batch) == ("pqn", 24_000, small.envs)


def test_a_teacher_is_judged_by_the_protocol_that_it_is_scored_by():
    made = settings(TeacherRun, composed("teacher")[0])
    assert rules_of(made.env, made.teacher.epsilon_final, 1, 0).name == composed("score")[0]["score"]["protocol"]


# A slip of the finger


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    """Of the program: pytest's own -m asks for no sweep."""
    monkeypatch.setattr(sys, "argv", ["command"])


def copied(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def test_a_mistyped_key_in_a_game_file_is_named_with_the_nearest_one(tmp_path):
    conf = copied(tmp_path)
    (conf / "game" / "Zaxxon.yaml").write_text("# @package _global_\nteacher:\n  train_framez: 5\n")
    tree, _ = composed("teacher", "game=Zaxxon", conf=conf)
    message = r"^teacher\.train_framez: unknown key; did you mean train_frames\?$"
    with pytest.raises(SettingsError, match=message):
        settings(TeacherRun, tree)


@pytest.mark.parametrize("root", ONE_GAME)
def test_a_mistyped_section_in_a_game_file_is_an_error_of_every_command(root, tmp_path):
    conf = copied(tmp_path)
    (conf / "game" / "Zaxxon.yaml").write_text("# @package _global_\nteachr:\n  train_frames: 5\n")
    tree, _ = composed(root, "game=Zaxxon", conf=conf)
    with pytest.raises(SettingsError, match=r"^teachr: unknown key; (allowed|did you mean)"):
        settings(KINDS[root][0], tree)


def test_a_value_of_the_wrong_type_is_named():
    tree, _ = composed("play", "play.realtime.seconds=soon")
    with pytest.raises(SettingsError, match=r"^play\.realtime\.seconds: found 'soon', must be of type float$"):
        settings(PlayRun, tree)


@pytest.mark.parametrize(
    ("root", "argument", "found"),
    [
        ("teacher", "teacher.agent.gamma=3", "3.0"),
        ("teacher", "teacher.network.hidden=0", "0"),
        ("teacher", "teacher.pqn.epochs=0", "0"),
        ("teacher", "teacher.envs=0", "0"),
        ("teacher", "env.noop_max=0", "0"),
        ("play", "play.realtime.pictures_per_s=0", "0"),
        ("play", "play.web.port=-1", "-1"),
        ("replay", "replay.realtime.seconds=-1", "-1.0"),
        ("distill", "distill.updates=0", "0"),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_the_key_that_sets_it(root, argument, found):
    tree, _ = composed(root, argument)
    with pytest.raises(SettingsError, match=rf"^{re.escape(argument.partition('=')[0])}: found {found}, allowed "):
        settings(KINDS[root][0], tree)


def test_several_groups_of_wrong_values_are_told_at_once():
    tree, _ = composed("teacher", "teacher.agent.gamma=3", "teacher.network.hidden=0", "env.sticky=1")
    with pytest.raises(SettingsError) as told:
        settings(TeacherRun, tree)
    assert sorted(line.partition(":")[0] for line in str(told.value).splitlines()) == [
        "env.sticky",
        "teacher.agent.gamma",
        "teacher.network.hidden",
    ]


def refusal(capsys, root, argument):
    """What a command that is begun with an argument says to standard error, after status 1."""

    def main():
        run(lambda: settings(KINDS[root][0], composed(root, argument)[0]).root == "")

    with pytest.raises(SystemExit, match=r"^1$"):
        launch(main)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("root", "argument", "message"),
    [
        ("play", "play.vieww=none", "play.vieww: unknown key; did you mean view?"),
        ("play", "play.realtime.second=1", "play.realtime.second: unknown key; did you mean seconds?"),
        ("play", "gane=Pong", "gane: unknown key; did you mean game?"),
        (
            "play",
            "+play.foo=1",
            "play.foo: unknown key; allowed chip, player, realtime, save, seed, student, view, web",
        ),
        ("play", "env.stiky=0.1", "env.stiky: unknown key; did you mean sticky?"),
        ("play", "bogus", "Error parsing override 'bogus'; missing EQUAL at '<EOF>'"),
        ("build", "chip.bord=ns1e", "chip.bord: unknown key; did you mean board?"),
        ("verify", "verify.decision=3", "verify.decision: unknown key; did you mean decisions?"),
        ("score", "score.episode=3", "score.episode: unknown key; did you mean episodes?"),
        ("teacher", "teacher.agent.gama=1", "teacher.agent.gama: unknown key; did you mean gamma?"),
        ("rollouts", "rollouts.epsilom=1", "rollouts.epsilom: unknown key; did you mean epsilon?"),
        ("distill", "distill.bach=3", "distill.bach: unknown key; did you mean batch?"),
        ("verify", "gmaes=[Pong]", "gmaes: unknown key; did you mean games?"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line_with_the_nearest_name(root, argument, message, capsys, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # launch sets it
    assert refusal(capsys, root, argument) == f"error: {message}\n"


def test_bits_that_there_are_not_are_named(capsys):
    assert refusal(capsys, "integers", "bits=int5").startswith("error: In 'integers': Could not find 'bits/int5'")


def test_a_student_without_a_file_is_named(capsys):
    assert refusal(capsys, "distill", "student=slimm").startswith("error: In 'distill': Could not find 'student/slimm'")


def test_a_smoke_size_without_a_file_is_named(capsys):
    assert refusal(capsys, "teacher", "smoke=nul").startswith("error: In 'teacher': Could not find 'smoke/nul'")


@pytest.mark.parametrize(("group", "names"), [("smoke", "board, build, distill"), ("student", "full, half")])
def test_a_group_set_to_null_is_named_with_what_it_may_be(group, names, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "root=runs", f"{group}=null"])
    with pytest.raises(SystemExit, match=r"^1$"):
        launch(lambda: composed("distill", f"{group}=null"))
    found = capsys.readouterr().err
    assert found.startswith(f"error: {group}: found null, must be a name such as {names}")
    assert found.endswith("; leave it out for the default\n")


def test_a_slip_is_told_by_the_program_itself(tmp_path):
    done = command_line("deploy.play", "play.vieww=none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: play.vieww: unknown key; did you mean view?\n"
    assert files_in(tmp_path) == set()


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def broken():
        raise TypeError("ours")

    with pytest.raises(TypeError, match=r"^ours$"):
        launch(broken)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_a_command_writes_nothing_outside_its_root(module, tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_run(root)
    more = {
        "deploy.verify": ["verify.decisions=3", "verify.plain_decisions=1"],
        "deploy.score": ["score.players=[random]", "score.episodes=1", "score.processes=1", "score.video_seconds=0.2"],
        "deploy.faults": ["smoke=faults", f"root={root}", "faults.processes=1", "faults.max_frames=200"],
        "deploy.play": ["play.player=spec", "play.view=video", "play.realtime.seconds=0.2"],
    }.get(module, [])
    done = command_line(module, f"root={root}", *more, cwd=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(elsewhere) == set()
    assert {path.name for path in tmp_path.iterdir()} == {"root", "elsewhere"}


def test_every_command_begins_by_launch():
    found = {f"{path.parent.name}.{path.stem}" for room in ("rl", "distill", "deploy")
             for path in (ROOM / room).glob("*.py") if re.search(r"^@hydra\.main", path.read_text(), re.M)}  # fmt: skip
    assert set(MODULES) | {"rl.train", "rl.collect", "distill.train", "distill.verify", "distill.faq"} <= found
    for name in found:
        text = Path(ROOM, *name.split(".")).with_suffix(".py").read_text()
        end = "    launch(main, sweeps=True)\n" if "run_or_sweep" in text else "    launch(main)\n"
        assert text.endswith(end), f"{name} leaves hydra's errors to hydra; end it with launch(main)"
