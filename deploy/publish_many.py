"""make publish GAMES=...: a student of several games and its chip become what ships, with a card from their reports.

Each game's score stands beside its teacher's, and beside that of an equal student that learned the game alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from deploy.cards import first_episode, interval, need_same, portable, results, share, with_results
from deploy.compiled import load_compiled
from deploy.remake import distilling, recording, remembered
from deploy.replay import save_replay
from deploy.spec import load_spec
from deploy.student_card import behind, kept_of, trainings
from deploy.verification import need_same_student
from rl.checkpoint import load_policy
from rl.command import CONF, launch, run, settings
from rl.files import digest, read_json, write_json, write_whole
from rl.scores import REFERENCE
from rl.settings import SettingsError, need
from rl.stages import (
    CHIP,
    MODELS,
    SEVERAL,
    SHIPPED,
    STUDENT,
    TEACHER,
    find,
    label,
    labelled,
    report_of,
    same_layers,
    shipped_card,
)
from rl.statistics import geometric_mean

PROTOCOL = "nature"
PLAYERS = ("teacher", "chip")  # that a card compares


@dataclass(frozen=True)
class PublishManyRun:
    """The command's settings."""

    games: tuple[str, ...]
    root: str
    alone: str

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")

    @property
    def folder(self) -> Path:
        return Path(self.root) / label(self.games)


def need_whole(config: PublishManyRun, reports: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsError unless all files and reports of a run speak of the same teachers, student and chip."""
    folder = config.folder
    need_scored_alike(folder, scores)
    spec, origin = load_spec(folder / STUDENT)
    compiled, _ = load_compiled(folder / CHIP)
    need_same_student(spec, compiled)
    told = {
        "student/report.json": (reports["student"]["spec"], spec.digest),
        "chip/report.json": (reports["chip"]["graph"], compiled.digest),
    }
    files = {stage: digest((folder / stage).read_bytes()) for stage in (STUDENT, CHIP)}
    for game in config.games:
        policy = load_policy(find(TEACHER, game, config.root))
        told[f"student's teacher of {game}"] = (origin["teachers"].get(game, "none"), policy.digest)
        for stage, found in files.items():
            told[f"score of {game}, {stage}"] = (scores[game]["models"].get(stage, "none"), found)
    need_same(folder, told)


def need_scored_alike(folder: Path, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsError unless teacher and chip of every game have their scores, by the same rules."""
    rules = next(iter(scores.values()))["protocol"]
    for game, told in scores.items():
        where = folder / "score" / PROTOCOL / game
        apart = f"rules {told['protocol']}, elsewhere {rules}"
        missing = [player for player in PLAYERS if player not in told["scores"]]
        if missing or told["protocol"] != rules:
            found = f"no score of {' and '.join(missing)}" if missing else apart
            raise SettingsError(f"{where}: found {found}; score {' and '.join(PLAYERS)} of all games in one command")


def gain(mean: float, game: str) -> float:
    """Points above random play, at least 1: what learned nothing divides nothing."""
    return max(mean - REFERENCE.get(game, (0.0, 0.0))[0], 1.0)


def geometric(shares: Sequence[float | None]) -> float | None:
    """Geometric mean; None where a share is not known."""
    known = [own for own in shares if own is not None]
    return geometric_mean(known) if len(known) == len(shares) else None


def row(game: str, told: Mapping[str, Any], alone: Mapping[str, Any] | None) -> dict[str, Any]:
    """One game of the card."""
    keep = ("mean", "low", "high", "human_normalised", "of_teacher")
    scores = {player: {k: facts[k] for k in keep} for player, facts in told["scores"].items()}
    mean = scores["chip"]["mean"]
    single = alone["scores"]["student"] if alone else None
    return {
        "scores": scores,
        "alone": None if single is None else {k: single[k] for k in ("mean", "low", "high")},
        "of_teacher": gain(mean, game) / gain(scores["teacher"]["mean"], game),
        "of_alone": None if single is None else gain(mean, game) / gain(single["mean"], game),
    }


def recorded(config: PublishManyRun, game: str, student: Mapping[str, Any]) -> int | None:
    """How many decisions of a game were recorded to learn from; None where that dataset is no longer there."""
    path = Path(config.root) / game / "rollouts" / "report.json"
    facts = read_json(path) if path.exists() else {}
    same = facts.get("digest", "none") == student["origin"].get("datasets", {}).get(game)
    return int(facts["decisions"]) if same else None


@remembered
def composed(stage: str, *named: str) -> dict[str, Any]:
    """As in deploy/publish.py: commands know nothing of each other, and nothing else of hydra."""
    opened = GlobalHydra.instance().is_initialized()  # as it is where the command itself was begun by hydra
    with nullcontext() if opened else initialize_config_dir(str(CONF), version_base=None):
        return OmegaConf.to_container(compose(stage, list(named)), resolve=True)  # type: ignore[return-value]


def card(
    config: PublishManyRun,
    reports: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """What there is to know of a shipped student of several games, from reports alone.

    `before`: the card that shipped until now, if any.
    """
    student, chip = reports["student"], reports["chip"]
    learnt, rules = kept_of(student, before), scores[config.games[0]]["protocol"]
    rows = {
        game: row(game, scores[game], alone_of(config, game, student)) | {"recorded": recorded(config, game, student)}
        for game in config.games
    }
    return {
        "games": rows,
        "geometric": {kind: geometric([own[kind] for own in rows.values()]) for kind in ("of_teacher", "of_alone")},
        "protocol": rules,
        "student": learnt,
        "chip": {k: chip[k] for k in ("graph", "usage", "latency_ticks", "mean_hops", "file_bytes", "settings")},
        "versions": scores[config.games[0]]["versions"],
        "commands": commands(rows, learnt, rules["episodes"]),
    }


def commands(rows: Mapping[str, Mapping[str, Any]], student: Mapping[str, Any], episodes: int) -> list[str]:
    """The commands that made a card's student and scored it by so many episodes; `rows`: its games."""
    names, several = ",".join(rows), f"several={label(tuple(rows))}"
    datasets = {game: own["recorded"] for game, own in rows.items() if own.get("recorded") is not None}
    if episodes != composed("score", f"games=[{names}]")["score"]["episodes"]:
        several = f'"{several} score.episodes={episodes}"'
    return [
        *(recording(game, {"decisions": count}, composed) for game, count in datasets.items()),
        *(distilling(f"GAMES={names}", own["settings"], composed) for own in trainings(student)),
        f"make compile GAMES={names}",
        f"make score GAMES={names} ARGS={several}",
    ]


def retell(models: Path) -> None:
    """Write these cards' commands anew, as deploy.publish does with those of single games."""
    for path in sorted(models.glob(f"*/{SEVERAL}")):
        facts = read_json(path)
        episodes = facts["protocol"]["episodes"]
        rows = {game: facts["games"][game] for game in labelled(path.parent.name)}  # a file sorts them
        again = commands(rows, facts["student"], episodes)
        write_card(path.parent, {**facts, "commands": again})


def write_card(target: Path, facts: Mapping[str, Any]) -> None:
    """For programs and for people."""
    write_json(target / SEVERAL, portable(facts))
    write_whole(target / "card.md", card_text(target.name, facts).encode())


def alone_of(config: PublishManyRun, game: str, student: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores of a student of equal layers that learned this game alone: a run's, else the shipped card's, else None."""
    folder, layers = Path(config.alone) / game, student["settings"]["student"]
    own, scored = folder / "student" / "report.json", folder / "score" / PROTOCOL / "report.json"
    if own.exists() and scored.exists():
        return read_json(scored) if same_layers(read_json(own)["settings"]["student"], layers) else None
    card = shipped_card(game, MODELS)
    return card if "student" in card and same_layers(card["student"]["settings"]["student"], layers) else None


def card_text(name: str, facts: Mapping[str, Any]) -> str:
    """The card for people."""
    rules, chip, student = facts["protocol"], facts["chip"], facts["student"]
    used, there = chip["usage"]["total"]["cores"]
    heads = "game", "teacher", "student of one", "chip", "of teacher", "of student of one", "decisions recorded"
    rows = [f"# {name}", "", f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|---|"]
    for game, own in facts["games"].items():
        cells = interval(own["scores"]["teacher"]), interval(own["alone"]), interval(own["scores"]["chip"])
        count = "-" if own.get("recorded") is None else f"{own['recorded']:,}"
        rows.append(
            f"| {game} | {' | '.join(cells)} | {share(own['of_teacher'])} | {share(own['of_alone'])} | {count} |"
        )
    means = (share(facts["geometric"][kind]) for kind in ("of_teacher", "of_alone"))
    rows += [
        f"| geometric mean | | | | {' | '.join(means)} | |",
        "",
        f"Protocol {rules['name']}: {rules['episodes']} episodes of each game on seeds {rules['seed']} and up, epsilon "
        f"{rules['epsilon']}; raw full-game scores, shares above random play. A student of one has the same layers.",
        "",
        f"- student: {student['updates']:,} updates{behind(student)}, {student['wall_s'] / 60:.0f} minutes; "
        f"`{student['spec'][:16]}`",
        f"- chip: {used:,} of {there:,} cores, votes after {chip['latency_ticks']} ticks; `{chip['graph'][:16]}`",
        "",
        "Made by: " + ", ".join(f"`{command}`" for command in facts["commands"]) + ".",
    ]
    return "\n".join(rows) + "\n"


def command(config: PublishManyRun) -> int:
    if "smoke" in Path(config.root).parts:
        raise SettingsError(f"root: found {config.root}, a smoke run; what ships must come from a whole one")
    folder, name = config.folder, label(config.games)
    target = MODELS / name
    reports = {stage: report_of(folder, stage) for stage in ("student", "chip")}
    scores = {game: report_of(folder, f"score/{PROTOCOL}/{game}") for game in config.games}
    need_whole(config, reports, scores)
    path = target / SEVERAL
    facts = card(config, reports, scores, read_json(path) if path.exists() else {})
    replays = {game: first_episode(game, config.root, scores[game]["protocol"], name) for game in config.games}
    for stage in (STUDENT, CHIP):  # all else is at hand: what stops now has replaced nothing
        write_whole(target / SHIPPED[stage], (folder / stage).read_bytes())
    for game, replay in replays.items():
        save_replay(replay, target / f"{game}.replay.npz")
    write_card(target, facts)
    retell(MODELS)
    readme = MODELS.parent / "README.md"
    write_whole(readme, with_results(readme.read_text(), results(MODELS)).encode())
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size / 1e6:.2f} MB\n{card_text(name, facts)}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="publish_many")
def main(tree: DictConfig) -> None:
    """Publish a run."""
    run(lambda: command(settings(PublishManyRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)
