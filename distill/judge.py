"""What a folded student is worth: on held-out decisions, in the games, and what it would take of a chip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.spec import StudentSpec, load_spec, save_spec
from distill.distiller import Distiller
from distill.export import Folded
from distill.health import firing, health, predicted
from distill.latent import save_latent
from distill.loss import agreement, entropy, kl, regret
from distill.settings import DistillRun
from rl.board import Board
from rl.checkpoint import PolicyCheckpoint
from rl.files import read_json, write_json
from rl.frames import Frames, pixels
from rl.games import SEEDS
from rl.manifest import versions
from rl.scores import REFERENCE, Score, evaluate, rules_of
from rl.stages import MODELS, same_layers, shipped_card
from rl.statistics import geometric_mean

EXAM_ROWS = 512  # of each game
EXAM = 2  # what a draw is for, beside those of the distiller


@torch.no_grad()
def exam(distiller: Distiller, spec: StudentSpec, size: int = EXAM_ROWS) -> dict[str, float]:
    """The folded student on held-out decisions of the teachers: agreement, what folding changed, health."""
    found: dict[str, list[float]] = {}
    folded, levels, student = Folded(spec), [], distiller.student
    own = distiller.config.distill
    rng = np.random.default_rng([own.seed, distiller.update, EXAM])
    student.eval()
    for head, recorded in enumerate(distiller.recorded):
        lesson = recorded.exam(rng, size)
        levels.append(list(folded.levels(torch.from_numpy(pixels(lesson.cells.numpy())))))
        votes, unfolded = folded.count(levels[-1][-1]), student.votes(lesson.cells)
        logits, scaled = student.logits(votes, head), lesson.q / lesson.unit
        row = {
            "distill/kl": kl(logits, scaled, own.temperature).item(),
            "distill/agreement": agreement(logits, lesson.q).item(),
            "distill/regret": regret(logits, lesson.q).item(),
            "distill/label_entropy": entropy(scaled, own.temperature).item(),
            "distill/folded_disagreement": (votes != unfolded).any(dim=1).float().mean().item(),
            "distill/vote_margin": _margin(votes[:, student.heads[head].start : student.heads[head].stop]),
        }
        for tag, value in row.items():
            found.setdefault(tag, []).append(value)
            if len(distiller.recorded) > 1:
                found[f"{tag}/{student.heads[head].game}"] = [value]
    student.train()
    rates = firing(levels)
    told = {tag: float(np.mean(values)) for tag, values in found.items()}
    return told | health(spec, rates) | predicted(spec, rates)


def _margin(votes: Tensor) -> float:
    """Mean lead of the best of a head's answers over its second, in votes."""
    top = votes.topk(min(2, votes.shape[1]), dim=1).values
    return (top[:, 0] - top[:, -1]).mean().item()


def folded_act(spec: StudentSpec, game: str) -> Callable[[Frames], NDArray[np.int64]]:
    """A spec as a batched policy: stacks [B, 21, 21, 64] -> actions [B], lowest id on a tie."""
    folded, head = Folded(spec), spec.head(game)

    def act(stacks: Frames) -> NDArray[np.int64]:
        votes = folded(torch.from_numpy(pixels(stacks))).numpy()
        return votes[:, head.start : head.stop].argmax(axis=1)  # type: ignore[no-any-return]

    return act


def score(config: DistillRun, spec: StudentSpec, game: str, episodes: int, first: int = 0) -> Score:
    """The folded student in the game, as the chip will play it, from a run's episode `first` on."""
    own = config.distill
    rules = rules_of(config.env, own.epsilon, episodes, (2_000_003 * own.seed + first) % SEEDS)
    return evaluate(folded_act(spec, game), game, rules, 1, "student")  # env workers spin: one leaves a core


def keep_best(config: DistillRun, distiller: Distiller, board: Board) -> str:
    """Fold, examine and score; keep the spec if it is the best so far (over games, against each teacher's range)."""
    spec = distiller.folded()
    told = exam(distiller, spec)
    scores = [score(config, spec, game, config.distill.eval_episodes) for game in config.games]
    shares = [share_of(*pair) for pair in zip(scores, distiller.teachers, strict=True)]
    share = float(np.mean(shares))
    means = {f"eval/{one.game}": one.mean for one in scores} | {"eval/share": share}
    means |= {
        "eval/mean_reward": float(np.mean([one.mean for one in scores])),
        "eval/share_geometric": geometric_mean(shares),
    }
    board.write(distiller.update, told | means, distiller.wall_s)
    board.flush()
    if distiller.best is None or share >= distiller.best:
        distiller.best = share
        save_latent(distiller.student, config.student, spec.digest, config.folder / "latent.safetensors")
        save_spec(spec, config.folder / "student.npz", origin(config, distiller, told))
    shown = f"score {means['eval/mean_reward']:.2f}, share of teacher {share:.3f} (best {distiller.best:.3f})"
    return f"update {distiller.update}: {shown}, agreement {told['distill/agreement']:.4f}"


def share_of(found: Score, teacher: PolicyCheckpoint) -> float:
    """A student's score as a share of its teacher's, both above random play: comparable between games."""
    random = REFERENCE.get(found.game, (0.0, 0.0))[0]
    span = max(float(teacher.training["score"]["mean"]) - random, 1.0)  # a teacher that learned nothing spans nothing
    return (found.mean - random) / span


def origin(config: DistillRun, distiller: Distiller, told: dict[str, float]) -> dict[str, Any]:
    """Where a spec comes from."""
    return {
        "teachers": {teacher.game: teacher.digest for teacher in distiller.teachers},
        "datasets": {game: data.digest for game, data in zip(config.games, distiller.recorded, strict=True)},
        "env": asdict(config.env),
        "update": distiller.update,
        "wall_s": distiller.wall_s,
        "exam": told,
        "versions": versions(),
        **({"start": distiller.start} if distiller.start else {}),
    }


def report(config: DistillRun, distiller: Distiller) -> dict[str, Any]:
    """Score the spec that was kept, by episodes that did not choose it; beside teachers and one-game students."""
    spec, made = load_spec(config.folder / "student.npz")
    path = config.folder / "report.json"
    before: dict[str, Any] = read_json(path) if path.exists() else {}
    if before and "finetuned_from" in made:  # it learned on by play and was scored then, by other episodes
        return before
    own = config.distill
    scores = [score(config, spec, game, own.report_episodes, own.eval_episodes) for game in config.games]
    shares = {one.game: share_of(one, of) for one, of in zip(scores, distiller.teachers, strict=True)}
    done = before.get("spec") == spec.digest and before.get("updates") == distiller.update
    facts = {
        "what": "student",
        "games": list(config.games),
        "spec": spec.digest,
        "origin": made,
        "wall_s": distiller.wall_s,
        "updates": distiller.update,
        "scores": {one.game: one.to_json() for one in scores},
        "shares": shares,
        "share_geometric": geometric_mean(list(shares.values())),
        **beside_alone(config, scores),
        "health": made["exam"],
        "settings": before["settings"] if done else asdict(config),  # those that it learned by
        "versions": versions(),
    }
    write_json(path, facts)
    return facts


def beside_alone(config: DistillRun, scores: Sequence[Score]) -> dict[str, Any]:
    """Scores as shares of those of an equal student that learned that game alone (McKinstry et al. 2018), if there."""
    found = {one.game: read_alone(config, one.game) for one in scores if len(scores) > 1}
    known = {game: mean for game, mean in found.items() if mean is not None}
    shares = {
        one.game: gain(one.mean, one.game) / gain(known[one.game], one.game) for one in scores if one.game in known
    }
    whole = {"shares_alone_geometric": geometric_mean(list(shares.values()))} if len(shares) == len(scores) > 1 else {}
    return {"alone": known, "shares_alone": shares, **whole}


def read_alone(config: DistillRun, game: str, models: Path = MODELS) -> float | None:
    """The mean score of a student of that game alone, a run's or the shipped one; None without one of these layers."""
    path, card = Path(config.alone) / game / "student" / "report.json", shipped_card(game, models)
    if path.exists():
        facts = read_json(path)
        told, mean = facts["settings"]["student"], facts["scores"][game]["mean"]
    elif "student" in card:
        told, mean = card["student"]["settings"]["student"], card["scores"]["student"]["mean"]
    else:
        return None
    return float(mean) if same_layers(told, json.loads(json.dumps(asdict(config.student)))) else None


def gain(mean: float, game: str) -> float:
    """Points above random play, at least 1: what learned nothing divides nothing."""
    return max(mean - REFERENCE.get(game, (0.0, 0.0))[0], 1.0)


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """A report for people."""
    for game, found in facts["scores"].items():
        share = facts["shares"][game]
        yield f"{game} student: {found['mean']:.2f} over {len(found['returns'])} episodes, {share:.3f} of its teacher"
    if len(facts["scores"]) > 1:
        yield f"geometric mean of the shares: {facts['share_geometric']:.3f}"
        told = ", ".join(f"{game} {share:.3f}" for game, share in facts["shares_alone"].items())
        yield f"of an equal student of one game: {told or 'none has been trained'}"
    told = facts["health"]
    levels = [tag.removeprefix("firing/") for tag in told if tag.startswith("firing/")]
    levels.sort(key=lambda name: (name != "front", name))
    yield f"{'level':20} {'fires':>7} {'dead':>7} {'always':>7} {'zeros':>7} {'of inputs used':>15}"
    for level in levels:
        shares = (told[f"{kind}/{level}"] for kind in ("firing", "dead", "always", "zero", "used"))
        yield f"{level:20} " + " ".join(f"{value:7.3f}" for value in shares)
    yield (
        f"predicted: {told['chip/cores']:,.0f} cores unreduced, {1e3 * told['chip/energy_j']:.3f} mJ a decision"
        f"; agreement {told['distill/agreement']:.4f}, KL {told['distill/kl']:.4f}, lead of the best action "
        f"{told['distill/vote_margin']:.1f} votes, votes changed by folding {told['distill/folded_disagreement']:.4f}"
    )
