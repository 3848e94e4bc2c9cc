"""Bytes and seconds a recorded decision costs, by codec: chunk sizes, zstd levels, peers, on ten games.

Play is uniformly random with sticky actions, because no teacher is needed for it: a teacher's play differs. Q comes
from a fixed random network of the pictures, so that its low bits are as noisy as a real network's.
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.report import write_report
from rl.recording import EpisodeRows, join_episodes
from rl.shards import FRAME_BYTES, Codec, pack, unpack

# The ten of Policy Distillation (Rusu et al. 2015).
GAMES = {
    "BeamRider": "beam_rider",
    "Breakout": "breakout",
    "Enduro": "enduro",
    "Freeway": "freeway",
    "MsPacman": "ms_pacman",
    "Pong": "pong",
    "Qbert": "qbert",
    "Riverraid": "riverraid",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
CHUNKS, LEVELS = (16, 64, 256, 1024), (3, 9, 15)
ENVS = 4


@dataclass(frozen=True)
class Peer:
    """One way to make frames smaller, and back."""

    name: str
    chunk_rows: int
    squeeze: Callable[[bytes], bytes]
    expand: Callable[[bytes], bytes]
    xor: bool = False  # each frame of a chunk as its difference from the one before


def peers() -> Iterator[Peer]:
    """Everything that is compared."""
    expand = zstandard.ZstdDecompressor().decompress
    for level in LEVELS:
        squeeze = zstandard.ZstdCompressor(level=level).compress
        yield from (Peer(f"zstd-{level}", rows, squeeze, expand) for rows in CHUNKS)
    yield Peer("zstd-3", 1, zstandard.ZstdCompressor(level=3).compress, expand)
    for level in (3, 9):
        yield Peer(f"xor zstd-{level}", 256, zstandard.ZstdCompressor(level=level).compress, expand, xor=True)
    yield Peer("zlib-6", 256, lambda data: zlib.compress(data, 6), zlib.decompress)
    yield Peer("lzma-1", 256, lambda data: lzma.compress(data, preset=1), lzma.decompress)


def measure(frames: NDArray[np.uint8], peer: Peer) -> dict[str, Any]:
    """Bytes a row and rows a second of one peer on frames [T, 84, 84]; asserts that nothing is lost."""
    chunks = [frames[i : i + peer.chunk_rows] for i in range(0, len(frames), peer.chunk_rows)]
    began = time.perf_counter()
    packed = [peer.squeeze((_xored(chunk) if peer.xor else chunk).tobytes()) for chunk in chunks]
    between = time.perf_counter()
    back = [np.frombuffer(peer.expand(data), np.uint8).reshape(-1, *frames.shape[1:]) for data in packed]
    back = [np.bitwise_xor.accumulate(chunk, axis=0) for chunk in back] if peer.xor else back
    ended = time.perf_counter()
    assert np.array_equal(np.concatenate(back), frames), peer.name
    return {
        "codec": peer.name,
        "chunk_rows": peer.chunk_rows,
        "frame_bytes_per_row": sum(map(len, packed)) / len(frames),
        "encode_rows_per_s": len(frames) / (between - began),
        "decode_rows_per_s": len(frames) / (ended - between),
    }


def _xored(chunk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([chunk[:1], chunk[1:] ^ chunk[:-1]])


def play(rom: str, decisions: int, seed: int) -> list[EpisodeRows]:
    """Random play of about `decisions` steps in 4 environments; the last episode of each is cut."""
    # Life losses are flags here; a true end has no lives left and is reset at once, so no dummy row appears.
    env = AtariVectorEnv(
        rom,
        num_envs=ENVS,
        num_threads=1,
        reward_clipping=False,
        life_loss_info=True,
        repeat_action_probability=0.25,
    )
    rng, actions = np.random.default_rng(seed), _actions(env)
    seeds = seed * 1000 + np.arange(ENVS)
    obs, _ = env.reset(seed=seeds.astype(np.int32))
    tapes: list[list[tuple[Any, ...]]] = [[] for _ in range(ENVS)]
    episodes = []
    for _ in range(decisions // ENVS):
        action = rng.integers(actions, size=ENVS)
        after, reward, terminated, truncated, info = env.step(action)
        ended = truncated | (terminated & (info["lives"] == 0))
        for i in range(ENVS):
            life = bool(terminated[i] and not ended[i])
            tapes[i].append((obs[i, -1], action[i], reward[i], life))
            if ended[i]:
                last = (bool(terminated[i] and not truncated[i]), bool(truncated[i]))
                episodes.append(_episode(tapes[i], after[i, -1], actions, last, i, int(seeds[i])))
                tapes[i] = []
        obs = env.reset(options={"reset_mask": ended})[0] if ended.any() else after
    cut = (False, False)
    rest = [_episode(tapes[i], obs[i, -1], actions, cut, i, int(seeds[i])) for i in range(ENVS) if tapes[i]]
    env.close()
    return episodes + rest


def _actions(env: AtariVectorEnv) -> int:
    space = env.single_action_space
    assert isinstance(space, Discrete)
    return int(space.n)


def _episode(
    tape: list[tuple[Any, ...]], last: NDArray[np.uint8], actions: int, end: tuple[bool, bool], env: int, seed: int
) -> EpisodeRows:
    frames = np.stack([*(row[0] for row in tape), last])
    action, q = np.array([row[1] for row in tape], np.uint8), random_q(frames[:-1], actions)
    return EpisodeRows(
        frames=frames,
        action=action,
        reward=np.array([row[2] for row in tape], np.float32),
        q=q,
        greedy=action == q.argmax(axis=1),
        life_lost=np.array([row[3] for row in tape], np.bool_),
        terminated=end[0],
        truncated=end[1],
        env=env,
        seed=seed,
        epsilon=1.0,
    )


def random_q(frames: NDArray[np.uint8], actions: int) -> NDArray[np.float32]:
    """[T, A] from a fixed random network with one hidden layer: a stand-in with a teacher's noise."""
    rng = np.random.default_rng(7)
    pooled = frames.reshape(-1, 21, 4, 21, 4).mean(axis=(2, 4), dtype=np.float32).reshape(len(frames), -1) / 255
    hidden = np.maximum(pooled @ rng.normal(size=(441, 64)).astype(np.float32) / 8, 0)
    q: NDArray[np.float32] = hidden @ rng.normal(size=(64, actions)).astype(np.float32) / 16 + np.float32(1)
    return q


def labels(q: NDArray[np.float32]) -> dict[str, Any]:
    """Bytes a decision of Q [T, A] in three forms, and the largest error of the lossy one."""
    squeeze = zstandard.ZstdCompressor(level=9).compress
    best = q.max(axis=1, keepdims=True)
    gaps = (q - best).astype(np.float16)
    forms = {
        "f32": squeeze(q.tobytes()),
        "f32 planes": squeeze(_planes(q)),
        "max f32 + gaps f16 planes": squeeze(_planes(best)) + squeeze(_planes(gaps)),
    }
    sizes = {name: len(data) / len(q) for name, data in forms.items()}
    return {"actions": q.shape[1], **sizes, "gap_error_max": float(np.abs(gaps.astype(np.float32) + best - q).max())}


def _planes(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1, array.itemsize).T.tobytes()


def whole(episodes: list[EpisodeRows], codec: Codec) -> dict[str, Any]:
    """Bytes a decision, all in, of a shard as it is written, and what reading it back takes with every check."""
    shard = join_episodes(episodes)
    began = time.perf_counter()
    data = pack(shard, codec)
    between = time.perf_counter()
    back = unpack(data, "benchmark")
    ended = time.perf_counter()
    assert np.array_equal(back.frames, shard.frames)
    assert np.array_equal(back.columns.q, shard.columns.q)
    rows = len(shard.frames)
    return {
        "bytes_per_decision": len(data) / int(shard.episodes.length.sum()),
        "pack_rows_per_s": rows / (between - began),
        "unpack_rows_per_s": rows / (ended - between),
        "decisions": int(shard.episodes.length.sum()),
        "episodes": len(shard.episodes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=8192, help="per game")
    decisions = parser.parse_args().decisions
    rows: list[dict[str, Any]] = []
    shards, q = {}, {}
    for game, rom in GAMES.items():
        episodes = play(rom, decisions, seed=3)
        frames = join_episodes(episodes).frames
        rows += [{"game": game, **measure(frames, peer)} for peer in peers()]
        shards[game] = whole(episodes, Codec())
        q[game] = labels(np.concatenate([episode.q for episode in episodes]))
    path = write_report(
        "codec", rows, {"raw_bytes_per_row": FRAME_BYTES, "shards": shards, "labels": q, "play": __doc__}
    )
    console = Console(width=190)
    console.print(_table(rows), _shards(shards, q), f"written to {path}")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "codec", "chunk", *GAMES, "mean", "encode rows/s", "decode rows/s", title="frame bytes a row (raw 7,056)"
    )
    for key in dict.fromkeys((row["codec"], row["chunk_rows"]) for row in rows):
        mine = [row for row in rows if (row["codec"], row["chunk_rows"]) == key]
        sizes = [row["frame_bytes_per_row"] for row in mine]
        speeds = [statistics.median(row[name] for row in mine) for name in ("encode_rows_per_s", "decode_rows_per_s")]
        cells = [f"{size:.0f}" for size in [*sizes, statistics.mean(sizes)]] + [f"{speed:,.0f}" for speed in speeds]
        table.add_row(key[0], str(key[1]), *cells)
    return table


def _shards(shards: dict[str, dict[str, Any]], q: dict[str, dict[str, Any]]) -> Table:
    table = Table(
        "game", "bytes a decision", "Q f32", "Q planes", "Q f16 gaps", "gap error", "pack rows/s", "unpack rows/s"
    )
    mean = statistics.mean(row["bytes_per_decision"] for row in shards.values())
    table.title = f"whole shards as written: frames, Q, scalars, tables; mean {mean:.1f} bytes a decision"
    for game, row in shards.items():
        sizes = [f"{q[game][name]:.1f}" for name in ("f32", "f32 planes", "max f32 + gaps f16 planes")]
        speeds = [f"{row[name]:,.0f}" for name in ("pack_rows_per_s", "unpack_rows_per_s")]
        table.add_row(game, f"{row['bytes_per_decision']:.1f}", *sizes, f"{q[game]['gap_error_max']:.1e}", *speeds)
    return table


if __name__ == "__main__":
    main()
