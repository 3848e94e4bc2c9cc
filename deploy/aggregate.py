"""Scores of many games put together: estimates with intervals, their Markdown, and what is drawn of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.panels import Panel, Section, Sheet, Span
from rl.scores import REFERENCE, Protocol, Score
from rl.statistics import STATISTICS, Statistic, estimate, mean, probability_of_improvement, profile

Run = Mapping[str, Mapping[str, Score]]  # game -> player -> score, of one training
NAMES = {"median": "median", "iqm": "IQM", "mean": "mean", "optimality_gap": "optimality gap"}
SCALES = {"human": "Human-normalised score", "teacher": "Share of the teacher's gain over random play"}
LEVELS = tuple(round(0.05 * step, 2) for step in range(41))  # of a performance profile: 0 to 2


@dataclass(frozen=True, eq=False)
class Raw:
    """A player's raw scores [N, G] of G games: N episodes of one training, or the means of N trainings."""

    unit: str  # episodes | trainings
    scores: NDArray[np.float64]


def raw_scores(player: str, runs: Sequence[Run], games: Sequence[str]) -> Raw:
    """Scores of a player in all runs that have it; of several, a run counts once, however many episodes it played.

    Of one run, as many episodes as every game has: the first ones, whose seeds are the same for all players.
    """
    own = [run for run in runs if all(player in run[game] for game in games)]
    if len(own) > 1:
        return Raw("trainings", np.array([[run[game][player].mean for game in games] for run in own]))
    fewest = min(len(own[0][game][player].returns) for game in games)
    return Raw("episodes", np.array([own[0][game][player].returns[:fewest] for game in games]).T)


def aggregate(runs: Sequence[Run], rules: Protocol) -> dict[str, Any]:
    """All there is to say of the scores of the same players in the same games, of one run or more, as JSON values."""
    games, players = list(runs[0]), list(next(iter(runs[0].values())))
    raw = {player: raw_scores(player, runs, games) for player in players}
    return {
        "what": "aggregate",
        "games": games,
        "players": players,
        "protocol": asdict(rules),
        "counts": {player: {"unit": own.unit, "n": len(own.scores)} for player, own in raw.items()},
        "human": _human(games, raw),
        "teacher": _share(games, raw) if "teacher" in raw else None,
        "better_than_teacher": _better(raw) if "teacher" in raw else {},
        "each_game": {
            game: {player: asdict(estimate(mean, own.scores[:, [column]])) for player, own in raw.items()}
            for column, game in enumerate(games)
        },
    }


def _human(games: Sequence[str], raw: Mapping[str, Raw]) -> dict[str, Any]:
    """On the scale where random play is 0 and a human is 1."""
    columns = [column for column, game in enumerate(games) if game in REFERENCE]
    left_out = {game: "random and human play are not published" for game in games if game not in REFERENCE}
    random, human = np.array([REFERENCE[games[column]] for column in columns]).reshape(-1, 2).T
    scaled = {player: (own.scores[:, columns] - random) / (human - random) for player, own in raw.items()}
    facts = {player: _estimates(own) for player, own in scaled.items()} if columns else {}
    profiles = {player: profile(own, LEVELS) for player, own in scaled.items()} if columns else {}
    return {
        "games": [games[column] for column in columns],
        "left_out": left_out,
        "players": facts,
        "profile": {"above": list(LEVELS), "players": profiles},
    }


def _share(games: Sequence[str], raw: Mapping[str, Raw]) -> dict[str, Any]:
    """On the scale where random play is 0 and the teacher's mean is 1; both players are resampled."""
    teacher = raw["teacher"].scores
    left_out = dict(_without_share(games, teacher))
    columns = [column for column, game in enumerate(games) if game not in left_out]
    random = np.array([REFERENCE[games[column]][0] for column in columns])
    theirs = teacher[:, columns]
    others = {player: own.scores[:, columns] for player, own in raw.items() if player != "teacher"}
    facts = {player: _estimates_of_shares(own, theirs, random) for player, own in others.items()} if columns else {}
    return {"games": [games[column] for column in columns], "left_out": left_out, "players": facts}


def _better(raw: Mapping[str, Raw]) -> dict[str, Any]:
    """Each player's chance to score higher than the teacher; it needs no scale."""
    others = {player: own.scores for player, own in raw.items() if player != "teacher"}
    return {
        player: asdict(estimate(probability_of_improvement, own, raw["teacher"].scores))
        for player, own in others.items()
    }


def _without_share(games: Sequence[str], teacher: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
    """(game, why) where nothing can be said of a share of the teacher."""
    for column, game in enumerate(games):
        if game not in REFERENCE:
            yield game, "random play is not published"
        elif estimate(mean, teacher[:, [column]]).low <= REFERENCE[game][0]:
            yield game, "the teacher does not beat random play for certain"


def _estimates(scaled: NDArray[np.float64]) -> dict[str, Any]:
    """Every statistic of scores [N, G] on one scale."""
    return {name: asdict(estimate(statistic, scaled)) for name, statistic in STATISTICS.items()}


def _estimates_of_shares(
    scores: NDArray[np.float64], teacher: NDArray[np.float64], random: NDArray[np.float64]
) -> dict[str, Any]:
    """Every statistic of a player's raw scores [N, G] as shares of its teacher's [M, G], above random play's [G]."""
    return {
        name: asdict(estimate(_of_shares(statistic, random, teacher), scores, teacher))
        for name, statistic in STATISTICS.items()
    }


def _of_shares(statistic: Statistic, random: NDArray[np.float64], teacher: NDArray[np.float64]) -> Statistic:
    """A statistic of shares, from raw scores of a player and of its teacher."""
    least = 1e-3 * (teacher.mean(axis=0) - random)  # a teacher that was drawn at random's level would divide by nothing

    def of(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        gain = np.maximum(theirs.mean(axis=-2) - random, least)
        return statistic((ours - random) / gain[..., None, :])

    return of


# As Markdown


def aggregate_text(facts: Mapping[str, Any]) -> str:
    """Aggregates, who beats the teacher, and every game, as Markdown."""
    rules, env, games = facts["protocol"], facts["protocol"]["env"], facts["games"]
    blocks = [
        f"# {len(games)} {'games' if len(games) > 1 else 'game'}, protocol {rules['name']}",
        f"{', '.join(games)}. {_counted(facts)}; seeds {rules['seed']} and up, epsilon {rules['epsilon']}, "
        f"sticky {env['sticky']}, cap {env['max_frames']:,} frames. In brackets: 95 % stratified bootstrap intervals.",
    ]
    for key, title in SCALES.items():
        if facts[key] is not None:
            blocks += [f"## {title}", *_scale_text(facts[key])]
    if facts["better_than_teacher"]:
        blocks += ["## Chance to score higher than the teacher, ties half", _chances(facts["better_than_teacher"])]
    blocks += ["## Each game, raw score", _each_game(facts)]
    return "\n\n".join(blocks) + "\n"


def _counted(facts: Mapping[str, Any]) -> str:
    """What was drawn from, in words."""
    counts = {player: f"{own['n']} {own['unit']}" for player, own in facts["counts"].items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} of each game and player"
    return ", ".join(f"{player}: {count}" for player, count in counts.items()) + " of each game"


def _scale_text(scale: Mapping[str, Any]) -> Iterator[str]:
    if scale["players"]:
        rows = [[player, *(_cell(own[name]) for name in NAMES)] for player, own in scale["players"].items()]
        yield _markdown(["player", *NAMES.values()], rows)
    yield f"Over {', '.join(scale['games']) or 'no game'}." + "".join(
        f" Left out: {game}, {why}." for game, why in scale["left_out"].items()
    )


def _chances(chances: Mapping[str, Any]) -> str:
    return _markdown(["player", "chance"], [[player, _cell(own)] for player, own in chances.items()])


def _each_game(facts: Mapping[str, Any]) -> str:
    rows = [[game, *(_cell(own[player]) for player in facts["players"])] for game, own in facts["each_game"].items()]
    return _markdown(["game", *facts["players"]], rows)


def _cell(found: Mapping[str, float]) -> str:
    value, low, high = (round(found[key], 2) + 0.0 for key in ("value", "low", "high"))  # no -0.00
    return f"{value:.2f} ({low:.2f} .. {high:.2f})"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# As a drawing


def sheet(facts: Mapping[str, Any]) -> Sheet:
    """Intervals of all players: aggregates first, then every game."""
    rules, games = facts["protocol"], facts["games"]
    scales = [
        Section(_over(title, facts[key]["games"]), tuple(_panels(facts[key]["players"])))
        for key, title in SCALES.items()
        if facts[key] is not None and facts[key]["players"]
    ]
    each = tuple(Panel(game, tuple(_spans(own))) for game, own in facts["each_game"].items())
    return Sheet(
        title=f"{', '.join(facts['players'])}: {len(games)} {'games' if len(games) > 1 else 'game'}",
        subtitle=f"protocol {rules['name']}; {_counted(facts)}; 95 % stratified bootstrap intervals",
        players=tuple(facts["players"]),
        sections=(*scales, Section("Each game: mean raw score", each)),
    )


def _over(title: str, games: Sequence[str]) -> str:
    return f"{title}, {len(games)} {'games' if len(games) > 1 else 'game'}"


def _panels(players: Mapping[str, Any]) -> Iterator[Panel]:
    for name, title in NAMES.items():
        yield Panel(title, tuple(_spans({player: own[name] for player, own in players.items()})))


def _spans(found: Mapping[str, Mapping[str, float]]) -> Iterator[Span]:
    for player, own in found.items():
        yield Span(player, own["value"], own["low"], own["high"])
