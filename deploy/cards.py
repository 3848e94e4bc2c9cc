"""What the README says of shipped games, made from their cards; and what a card says beyond a run's reports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from deploy.activity import record_held
from deploy.chip import chip_named
from deploy.energy import estimate
from deploy.engine import LazyEngine
from deploy.gather import joules
from deploy.players import load_chip, make_player
from deploy.remake import PLACES
from deploy.replay import Replay
from deploy.replaying import Reel, env_of, played_with, record_episode
from deploy.reports import model_digests
from rl.files import read_json
from rl.games import EnvSettings, ScalarGame
from rl.scores import points
from rl.settings import SettingsError, build
from rl.stages import CARD, SEVERAL
from rl.statistics import geometric_mean

REPLAY_FRAMES = 10_800
ENERGY_PICTURES = 100
START, END = "<!-- results: made by `make publish` from the cards in models/ -->", "<!-- end of results -->"
# What a card shows of each player, in this order; the middle two where a game has them.
COLUMNS = {"teacher": "teacher", "student": "student", "int8": "8-bit", "int4": "4-bit", "chip": "chip"}


def portable(facts: Any) -> Any:
    """A card's facts without the folders of the machine that made them: settings tell what was made, not where."""
    if isinstance(facts, Mapping):
        return {k: placeless(v) if k == "settings" else portable(v) for k, v in facts.items()}
    return [portable(own) for own in facts] if isinstance(facts, list) else facts


def placeless(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the folders of a run."""
    return {k: v for k, v in settings.items() if k not in PLACES}


def need_same(folder: Path, told: Mapping[str, tuple[str, str]]) -> None:
    """Raise SettingsError naming every report that speaks of another file than the one that is there."""
    wrong = [f"{name}: {said[:12]}, the file is {found[:12]}" for name, (said, found) in told.items() if said != found]
    if wrong:
        raise SettingsError(f"{folder}: reports of other models; run the stages again\n" + "\n".join(wrong))


def first_episode(game: str, root: str, rules: Mapping[str, Any], student: str | None = None) -> Replay:
    """The chip's first episode on the protocol's seed, without random actions; at most three minutes of it.

    `student` as of `deploy.players.make_player`.
    """
    env, seed = build(EnvSettings, rules["env"], "protocol.env"), int(rules["seed"])
    own = ScalarGame(game, env, seed)
    player = make_player("chip", game, own.actions, root, seed, frozenset, None, student)
    models = model_digests(game, root, ["chip"], student)
    played = played_with(game, "chip", student, env, seed, own.actions, models)
    return record_episode(own, player, played, REPLAY_FRAMES // env.frames_per_step)


def energy_of(replay: Replay, root: str, pictures: int = ENERGY_PICTURES) -> dict[str, Any]:
    """What a chip's play costs, an estimate at 1 V: from so many pictures of its replay, equally far apart."""
    own = replay.played
    with redirect_stdout(StringIO()):  # which files are read has been said before
        spec, compiled = load_chip(own.student or own.game, root)
    reel = Reel(replay, own.game, ScalarGame(own.game, env_of(replay), own.seed), None)
    at = np.linspace(0, len(reel) - 1, min(pictures, len(reel))).astype(int).tolist()
    lines = spec.newest(np.stack([reel.at(decision).obs for decision in at]))
    engine = LazyEngine(compiled.graph)
    activity = record_held(engine, lines.reshape(-1, compiled.graph.n_inputs), compiled.picture_ticks)
    chip, stages = chip_named(compiled.usage.chip), compiled.usage.stages
    found = estimate(compiled.graph, chip, compiled.place, stages, compiled.latency_ticks, activity).as_dict
    return {name: found[name] for name in ("source", "voltage", "ticks_a_second", "whole", "pass_a_j", "pass_b_j")}


def results(models: Path) -> str:
    """The README's tables: a row a game and one of all; where there are any, a row a student of several games."""
    return "\n\n".join(filter(None, (_of_games(models), _of_several(models))))


def _of_games(models: Path) -> str:
    cards = [read_json(path) for path in sorted(models.glob(f"*/{CARD}"))]
    players = [name for name in COLUMNS if name not in ("int8", "int4") or any(name in c["scores"] for c in cards)]
    heads = ("game", *(COLUMNS[name] for name in players), "chip of teacher", "cores", "latency", "energy", "episodes")
    return table([heads, *(_row(facts, players) for facts in cards), *_mean_row(cards, players)])


def _mean_row(cards: Sequence[Mapping[str, Any]], players: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What all games' shares of their teachers come to, of each player that all of several games have."""
    if len(cards) < 2:
        return
    means = {player: _mean_share(cards, player) for player in players if player != "teacher"}
    cells = ("" if player in ("teacher", "chip") else means[player] for player in players)
    yield ("geometric mean, of teachers", *cells, means["chip"], "", "", "", "")


def _mean_share(cards: Sequence[Mapping[str, Any]], player: str) -> str:
    scores = [facts["scores"].get(player) for facts in cards]
    known = [own["of_teacher"] for own in scores if own and own.get("of_teacher") is not None]
    return share(geometric_mean(known) if len(known) == len(cards) else None)


def _of_several(models: Path) -> str:
    """Shares are geometric means over the games, of points above random play; nothing where there is none."""
    found = {path.parent.name: read_json(path) for path in sorted(models.glob(f"*/{SEVERAL}"))}
    heads = (
        "student of several games",
        "of teachers",
        "least",
        "of students of one game",
        "cores",
        "latency",
        "episodes",
    )
    return table([heads, *(_several_row(*card) for card in found.items())]) if found else ""


def _several_row(name: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    games, used = facts["games"], facts["chip"]["usage"]["total"]["cores"]
    worst = min(games, key=lambda game: games[game]["of_teacher"])
    return (
        f"[{', '.join(games)}](models/{name}/card.md)",
        share(facts["geometric"]["of_teacher"]),
        f"{share(games[worst]['of_teacher'])} ({worst})",
        share(facts["geometric"]["of_alone"]),
        "{:,} of {:,}".format(*used),
        f"{facts['chip']['latency_ticks']} ticks",
        str(facts["protocol"]["episodes"]),
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the heads."""
    heads, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *others))


def _row(facts: Mapping[str, Any], players: Sequence[str]) -> tuple[str, ...]:
    return (
        f"[{facts['game']}](models/{facts['game']}/card.md)",
        *(interval(facts["scores"].get(player)) for player in players),
        *(_chip_cells(facts) if "chip" in facts else ("-",) * 4),
        str(facts["protocol"]["episodes"]),
    )


def _chip_cells(facts: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Share of the teacher, cores, latency and energy."""
    chip = facts["chip"]
    used, there = chip["usage"]["total"]["cores"]
    return (
        share(facts["scores"]["chip"]["of_teacher"]),
        f"{used:,} of {there:,}",
        f"{chip['latency_ticks']} ticks",
        f"{1e3 * joules(chip['energy']):.2f} mJ" if "energy" in chip else "-",
    )


def interval(score: Mapping[str, float] | None) -> str:
    """A mean with its interval; a dash where there is none."""
    return "-" if score is None else f"{points(score['mean'])} ({points(score['low'])} .. {points(score['high'])})"


def share(value: float | None) -> str:
    """Of a teacher's score or another's; a dash where it is not known."""
    return "-" if value is None else f"{value:.3f}"


def with_results(text: str, table: str) -> str:
    """A README with the table between its two marks renewed; raises SettingsError where they are missing."""
    if START not in text or END not in text:
        raise SettingsError(f"README.md: the marks {START!r} and {END!r} are missing; put them back")
    return re.sub(re.escape(START) + ".*?" + re.escape(END), lambda _: f"{START}\n{table}\n{END}", text, flags=re.S)
