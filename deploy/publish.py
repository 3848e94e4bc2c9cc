"""make publish: what a run made becomes what ships, with a card made from its reports and from nothing else.

A teacher may ship before it has a student; a new student or integers of it may join what ships.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from deploy.cards import energy_of, first_episode, need_same, portable, results, with_results
from deploy.integer_card import (
    INTEGERS,
    PLAYERS,
    identities,
    integer_commands,
    integer_lines,
    integer_reports,
    integers_of,
    joined,
    kept_scores,
    own_integers,
    player_of,
)
from deploy.remake import distilling, finetuning, recording, remembered, teaching
from deploy.replay import Replay, save_replay
from deploy.replaying import REPLAY
from deploy.student_card import (
    STAGES,
    of_same_dataset,
    of_student,
    scored_identities,
    student_identities,
    student_lines,
    trainings,
    with_student,
)
from rl.checkpoint import load_policy
from rl.command import CONF, launch, run, settings
from rl.files import read_json, write_json, write_whole
from rl.scores import in_words, points
from rl.settings import SettingsError
from rl.stages import CARD, CHIP, MODELS, SHIPPED, STUDENT, TEACHER, report_of, shipped_card

ALWAYS = ("teacher", "score/nature")
LEARNT = ("policy", "policy_frames", "frames", "wall_s", "settings", "start")  # the last if it began as another
SCORES = ("mean", "low", "high", "median", "std", "human_normalised", "of_teacher", "returns")


@dataclass(frozen=True)
class PublishRun:
    """The command's settings."""

    name: str
    root: str


@dataclass(frozen=True)
class Shipment:
    """All that ships, at hand before the first file is replaced."""

    card: Mapping[str, Any]
    files: Mapping[str, bytes]  # the run's models, by the names that they ship by
    replay: Replay | None  # of the run's chip; None: it has none
    gone: tuple[str, ...] = ()  # names of integers of a teacher that ships no more


def need_whole(run_folder: Path, reports: Mapping[str, Any]) -> None:
    """Raise SettingsError unless all files and reports of a run speak of the same teacher, students and chip."""
    policy = load_policy(run_folder / TEACHER)
    if reports["teacher"].get("start", {}).get("policy") == policy.digest:
        raise SettingsError(
            f"{run_folder / TEACHER}: nothing beat what it began as, {policy.digest[:12]}, only one that did can ship; "
            "train on, or take the folder away to publish what is beside it"
        )
    told = {"teacher/report.json": (reports["teacher"]["policy"], policy.digest)}
    told |= scored_identities(run_folder, reports, (TEACHER,))
    if "student" in reports:
        told |= student_identities(run_folder, policy.game, reports, policy.digest)
    told |= identities(run_folder, reports, policy.digest)
    need_same(run_folder, told)


def need_no_chip(target: Path) -> None:
    """Raise SettingsError where a teacher alone would take the place of one whose student and chip ship."""
    if (target / SHIPPED[CHIP]).exists():
        raise SettingsError(
            f"{target}: found a chip of another teacher, allowed for a teacher alone is a game without one; "
            "distil, compile and score a student of the new one first"
        )


def reports_of(run_folder: Path) -> dict[str, Any]:
    """What a run's stages report, by stage: its student's only once that is done."""
    done = (run_folder / "student" / "report.json").exists()
    found = {name: report_of(run_folder, name) for name in (*ALWAYS, *(STAGES if done else ()))}
    return found | integer_reports(run_folder, own_integers(run_folder))


def shipping(reports: Mapping[str, Any]) -> tuple[str, ...]:
    """What ships: the teacher; its student and chip where they are made; integers that were scored beside them."""
    made = (STUDENT, CHIP) if "student" in reports else ()
    return TEACHER, *made, *(stage for stage in INTEGERS if player_of(stage) in reports)


def card(game: str, reports: Mapping[str, Any], before: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to know of a shipped game, from its reports.

    `before`: the card that shipped until now, if any; `kept`: scores of its integers that go on to ship, by player.
    """
    score = reports["score/nature"]
    teacher = reports["teacher"]
    integers = {player: before["integers"][player] for player in kept} | integers_of(reports)
    scores = {player: {k: facts[k] for k in SCORES} for player, facts in scores_of(reports)}
    made = {
        "game": game,
        "protocol": score["protocol"],
        "scores": {**scores, **kept},
        "teacher": with_begun({k: teacher[k] for k in LEARNT if k in teacher}, before),
        **(of_student(reports, before) if "student" in reports else {}),
        **({"integers": integers} if integers else {}),
        "versions": score["versions"],
    }
    return made | {"commands": list(commands(made))}


def with_begun(teacher: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A card's teacher, with how the one was made that it began as, where that ships; published again, as before."""
    begun, ships = teacher.get("start", {}).get("policy"), before.get("teacher", {})
    if ships.get("policy") == teacher["policy"] and ships.get("start") == teacher.get("start"):
        return teacher | ({"begun": ships["begun"]} if "begun" in ships else {})
    return {**teacher, "begun": ships} if begun and ships.get("policy") == begun else teacher


def teachings(teacher: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A card's teacher as it was trained: those that it began as, as far as they shipped, then itself."""
    if "begun" in teacher:
        yield from teachings(teacher["begun"])
    yield teacher


def scores_of(reports: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Players and their scores; without a student, of what ships alone: an earlier student's may stand beside them."""
    ships = {player_of(stage) for stage in shipping(reports)}
    for player, facts in reports["score/nature"]["scores"].items():
        if player in ships or ("student" in reports and player not in PLAYERS):
            yield player, facts


@remembered
def composed(stage: str, *named: str) -> dict[str, Any]:
    """The settings of a stage as conf/ has them, where `named` is said beside."""
    opened = GlobalHydra.instance().is_initialized()  # as it is where the command itself was begun by hydra
    with nullcontext() if opened else initialize_config_dir(str(CONF), version_base=None):
        return OmegaConf.to_container(compose(stage, list(named)), resolve=True)  # type: ignore[return-value]


def commands(card: Mapping[str, Any]) -> Iterator[str]:
    """The commands that made what a card tells of."""
    game = card["game"]
    yield from (teaching(game, own["settings"], composed) for own in teachings(card["teacher"]))
    if "student" not in card:
        yield f"make score GAME={game} ARGS=score.players=[teacher]"
    else:
        yield recording(game, card["rollouts"], composed)
        for own in trainings(card["student"]):
            yield distilling(f"GAME={game}", own["settings"], composed)
            if "finetuned" in own:
                yield finetuning(game, own["finetuned"]["settings"], composed)
        yield from (f"make {stage} GAME={game}" for stage in ("compile", "score"))
    yield from integer_commands(card, composed)


def retell(models: Path) -> None:
    """Write every card's commands anew: what they need not say is as conf/ is now, not as it was then."""
    for path in sorted(models.glob(f"*/{CARD}")):
        facts = read_json(path)
        write_card(path.parent, {**facts, "commands": list(commands(facts))})


def write_card(target: Path, facts: Mapping[str, Any]) -> None:
    """For programs and for people."""
    write_json(target / CARD, portable(facts))
    write_whole(target / "card.md", card_text(facts).encode())


def card_text(facts: Mapping[str, Any]) -> str:
    """The card for people."""
    rules, teacher = facts["protocol"], facts["teacher"]
    rows = [f"# {facts['game']}", "", "| player | mean | 95 % interval | median | human-normalised | of teacher |"]
    rows.append("|---|---|---|---|---|---|")
    for player, s in facts["scores"].items():
        human, share = (("-" if s[k] is None else f"{s[k]:.3f}") for k in ("human_normalised", "of_teacher"))
        interval = f"{points(s['low'])} .. {points(s['high'])}"
        rows.append(f"| {player} | {points(s['mean'])} | {interval} | {points(s['median'])} | {human} | {share} |")
    rows += [
        "",
        f"Protocol {rules['name']}: {rules['episodes']} episodes each on seeds {rules['seed']} and up, epsilon "
        f"{rules['epsilon']}, {in_words(rules['env'])}, raw full-game score.",
        "",
        f"- teacher: {teacher['policy_frames']:,} frames{_after(teacher)}, {teacher['wall_s'] / 60:.0f} minutes on "
        f"{facts['versions'].get('cpus', 2)} cores; digest `{teacher['policy'][:16]}`",
        *(student_lines(facts) if "student" in facts else ()),
        *integer_lines(facts),
        "",
        "Made by: " + ", ".join(f"`{command}`" for command in facts["commands"]) + ".",
    ]
    return "\n".join(rows) + "\n"


def _after(teacher: Mapping[str, Any]) -> str:
    """What a teacher had behind it when it began, where it did not begin with nothing."""
    start = teacher.get("start")
    return f" after {start['frames']:,} as `{start['policy'][:16]}`" if start else ""


def publish_whole(config: PublishRun, folder: Path, target: Path) -> Shipment:
    """A run's models, and what ships already of their very teacher."""
    reports, before = reports_of(folder), shipped_card(config.name, MODELS)
    need_whole(folder, reports)
    if "student" not in reports:
        need_no_chip(target)
    kept = kept_scores(target, before, reports, SCORES)
    facts, replay = card(config.name, reports, before, kept), None
    if "student" in reports:
        facts, replay = with_replay(config, facts, reports)
    stages = shipping(reports)
    gone = (stage for stage in INTEGERS if stage not in stages and player_of(stage) not in kept)
    return Shipment(facts, files_of(folder, stages), replay, tuple(SHIPPED[stage] for stage in gone))


def with_replay(
    config: PublishRun, facts: Mapping[str, Any], reports: Mapping[str, Any]
) -> tuple[dict[str, Any], Replay]:
    """A card with the energy of what its chip plays first, and that play."""
    replay = first_episode(config.name, config.root, reports["score/nature"]["protocol"])
    return {**facts, "chip": {**facts["chip"], "energy": energy_of(replay, config.root)}}, replay


def publish_parts(config: PublishRun, folder: Path, target: Path) -> Shipment:
    """What a run has made of a teacher that ships: its student and chip, its integers; the card with them."""
    facts, integers = read_json(target / CARD), own_integers(folder)
    reports = student_reports(folder, facts)
    replay = None
    if reports:
        facts = with_student(facts, folder, reports, SCORES)
    if integers or not reports:
        facts = joined(facts, folder, SCORES)
    if reports:
        facts, replay = with_replay(config, facts, reports)
    stages = (*((STUDENT, CHIP) if reports else ()), *integers)
    return Shipment(facts | {"commands": list(commands(facts))}, files_of(folder, stages), replay)


def files_of(folder: Path, stages: Iterable[str]) -> dict[str, bytes]:
    """What a run's stages made, by the names that it ships by."""
    return {SHIPPED[stage]: (folder / stage).read_bytes() for stage in stages}


def ship(made: Shipment, target: Path) -> None:
    """Replace what ships; says what is removed."""
    for name, data in made.files.items():
        write_whole(target / name, data)
    if made.replay is not None:
        save_replay(made.replay, target / REPLAY)
    for path in (target / name for name in made.gone if (target / name).exists()):
        path.unlink()
        print(f"{path}: removed, its teacher ships no more")
    write_card(target, made.card)


def student_reports(folder: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """Reports of a run's student, by stage; nothing where it has none; `before`: the card of what ships."""
    if not (folder / "student" / "report.json").exists():
        return {}
    told = of_same_dataset(report_of(folder, "student"), before)  # by the card already
    return {name: report_of(folder, name) for name in (*STAGES, "score/nature") if name != "rollouts" or not told}


def command(config: PublishRun) -> int:
    if "smoke" in Path(config.root).parts:
        raise SettingsError(f"root: found {config.root}, a smoke run; what ships must come from a whole one")
    folder, target = Path(config.root) / config.name, MODELS / config.name
    alone = (target / CARD).exists() and not (folder / "teacher").exists()
    made = publish_parts(config, folder, target) if alone else publish_whole(config, folder, target)
    ship(made, target)
    retell(MODELS)
    readme = MODELS.parent / "README.md"
    write_whole(readme, with_results(readme.read_text(), results(MODELS)).encode())
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size / 1e6:.2f} MB\n{card_text(made.card)}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="publish")
def main(tree: DictConfig) -> None:
    """Publish a run."""
    run(lambda: command(settings(PublishRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)
