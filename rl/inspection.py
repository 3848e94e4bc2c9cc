"""Looking at a dataset: what is in it, and whether it is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rl.bars import Panel, histogram, svg
from rl.files import FormatError, spelled, write_whole
from rl.manifest import NAME, Manifest, Returns, manifest_json, read_manifest, read_shard, returns_agree
from rl.shards import CAPPED, CUT, END, GREEDY, LIFE_LOST, OVER, Columns, EpisodeTable, Shard, join, part_bytes
from rl.stacks import STACK, ages, stacks_of

TEMPERATURES = (1.0, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Sharpness:
    """How sharp softmax(Q / temperature) is, averaged over decisions."""

    temperature: float
    entropy: float  # nats
    p_argmax: float


def sharpness(q: NDArray[np.float32], temperature: float) -> Sharpness:
    """Of labels q [D, A] at a temperature in units of Q."""
    gaps = (q.astype(np.float64) - q.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(gaps)
    total = weights.sum(axis=1, keepdims=True)
    p = weights / total
    entropy = (np.log(total[:, 0]) - (p * gaps).sum(axis=1)).mean()
    return Sharpness(temperature, float(entropy), float(p.max(axis=1).mean()))


def facts_of(manifest: Manifest, columns: Columns, episodes: EpisodeTable, parts: dict[str, int]) -> dict[str, Any]:
    """What `info` prints, as plain JSON values; `parts`: bytes by what they hold."""
    decided = columns.flags & END == 0
    q, action, flags = columns.q[decided], columns.action[decided], columns.flags[decided]
    returns = manifest.returns
    ends = {name: int((episodes.end == end).sum()) for name, end in (("over", OVER), ("capped", CAPPED), ("cut", CUT))}
    return {
        "game": manifest.facts.game,
        "player": manifest.facts.player.get("name", "teacher"),
        "labelled": manifest.facts.labelled,
        "status": manifest.status,
        "digest": manifest.digest,
        "rows": len(columns.flags),
        "decisions": len(q),
        "episodes": len(episodes),
        "episode_ends": ends,
        "returns": None if returns is None else vars(returns),
        "actions": dict(zip(manifest.facts.actions, np.bincount(action, minlength=q.shape[1]).tolist(), strict=True)),
        "greedy_share": float((flags & GREEDY != 0).mean()),
        "lives_lost": int((flags & LIFE_LOST != 0).sum()),
        **(_label_facts(q) if manifest.facts.labelled else {}),
        "bytes_per_decision": {"all": manifest.bytes / len(q), **{name: size / len(q) for name, size in parts.items()}},
    }


def _label_facts(q: NDArray[np.float32]) -> dict[str, Any]:
    gaps = np.sort(q.max(axis=1, keepdims=True) - q, axis=1)
    return {
        "q_min": float(q.min()),
        "q_max": float(q.max()),
        "gap_to_second_median": float(np.median(gaps[:, 1])) if q.shape[1] > 1 else 0.0,
        "labels": [vars(sharpness(q, temperature)) for temperature in TEMPERATURES],
    }


def info(folder: Path, console: Console | None = None, plot: Path | None = None) -> list[str]:
    """Print a dataset as a table, and draw it into the SVG file `plot`. Returns no problems.

    Raises FormatError if it cannot be read, OSError where the plot cannot be written.
    """
    manifest = read_manifest(folder)
    # Shard by shard: a description must not need the memory of the whole.
    lean = [(shard.columns, shard.episodes) for shard in _shards(folder, manifest)]
    if not lean:
        raise FormatError(f"{folder}: field shards is empty; record into it first")
    columns = Columns(**{f.name: np.concatenate([getattr(c, f.name) for c, _ in lean]) for f in fields(Columns)})
    episodes = join([table for _, table in lean], [entry.rows for entry in manifest.shards])
    facts = facts_of(manifest, columns, episodes, _parts(folder, manifest))
    table = Table("field", "value", title=f"{facts['game']}: {folder}")
    for name, value in facts.items():
        for label, text in _lines(name, value):
            table.add_row(label, text)
    out = console or Console()
    out.print(table)
    if plot is not None:
        write_whole(
            plot, svg(f"{facts['game']}, played by {facts['player']}", panels(facts, columns, episodes)).encode()
        )
        out.print(f"drawn: {plot}")
    return []


def panels(facts: dict[str, Any], columns: Columns, episodes: EpisodeTable) -> list[Panel]:
    """What the plot shows: returns, actions, the range of Q, how sharp the labels are."""
    ended, decided = episodes.end != CUT, columns.flags & END == 0
    returns = episodes.returns[ended]
    shown = [
        histogram("returns of whole episodes", "raw score", returns) if len(returns) else None,
        Panel("actions", "decisions", tuple(facts["actions"].items())),
    ]
    if facts["labelled"]:
        q = columns.q[decided]
        entropies = tuple((f"T {line['temperature']:g}", line["entropy"]) for line in facts["labels"])
        shown += [
            histogram("best value of each decision", "max Q", q.max(axis=1)),
            histogram("range of values of each decision", "max Q - min Q", np.ptp(q, axis=1)),
            Panel("entropy of softmax(Q / T)", "nats", entropies),
            Panel("P(argmax) of softmax(Q / T)", "", tuple((n, line["p_argmax"]) for (n, _), line in
                                                            zip(entropies, facts["labels"], strict=True))),
        ]  # fmt: skip
    return [panel for panel in shown if panel is not None]


def _parts(folder: Path, manifest: Manifest) -> dict[str, int]:
    total: Counter[str] = Counter()
    for entry in manifest.shards:
        total.update(part_bytes((folder / entry.name).read_bytes()))
    return dict(total)


def _shards(folder: Path, manifest: Manifest) -> Iterator[Shard]:
    for entry in manifest.shards:
        yield read_shard(folder, entry, len(manifest.facts.actions))


def _lines(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if name == "labels":
        for line in value:
            text = f"entropy {line['entropy']:.4f} nats, P(argmax) {line['p_argmax']:.4f}"
            yield f"labels at temperature {line['temperature']:g}", text
    elif isinstance(value, dict):
        yield name, ", ".join(f"{key} {_number(item)}" for key, item in value.items())
    else:
        yield name, _number(value)


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def verify(folder: Path, console: Console | None = None) -> list[str]:
    """Recompute all that can be recomputed; prints a line if sound, returns every fault found. Writes nothing."""
    try:
        manifest = read_manifest(folder)
    except FormatError as error:
        return [str(error)]
    problems, tables = list(_spelling_faults(folder, manifest)), []
    for entry in manifest.shards:
        try:
            shard = read_shard(folder, entry, len(manifest.facts.actions))
        except FormatError as error:
            problems.append(str(error))
        else:
            tables.append(shard.episodes)
            problems += stack_faults(shard, str(folder / entry.name))
    problems += [] if problems else _manifest_faults(folder, manifest, tables)
    if not problems:
        counts = f"{manifest.decisions:,} decisions, {manifest.episodes:,} episodes, {len(manifest.shards)} shards"
        (console or Console()).print(f"{manifest.facts.game}: sound: {counts}, status {manifest.status}")
    return problems


def _spelling_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    # Its digest covers values: 1e-05 and 1E-05, or two spellings of one float, are a flipped bit apart.
    if (folder / NAME).read_bytes() != spelled(manifest_json(manifest)):
        yield f"{folder / NAME}: field text is not as it was written: changed or damaged; record or fetch it again"


def _manifest_faults(folder: Path, manifest: Manifest, tables: list[EpisodeTable]) -> Iterator[str]:
    if not tables:
        yield f"{folder}: field shards is empty; record into it first"
        return
    found = Returns.of(join(tables, [entry.rows for entry in manifest.shards]))
    if not returns_agree(manifest.returns, found):
        yield f"{folder}: field returns is {manifest.returns}, the episodes have {found}; record or fetch it again"


def stack_faults(shard: Shard, where: str) -> Iterator[str]:
    """Each episode whose first stack is not three black pictures and its first picture."""
    starts = shard.episodes.start
    stacks = stacks_of(shard.frames, ages(starts, len(shard.frames)), starts)
    padded = ~stacks[:, : STACK - 1].any(axis=(1, 2, 3))
    same = (stacks[:, -1] == shard.frames[starts]).all(axis=(1, 2))
    for i in np.flatnonzero(~(padded & same)):
        yield f"{where}: field frames: the first stack of episode {i} is not zeros and its first picture"
