"""Memory: asked for before it is taken, because a machine that runs out of it kills without a word."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

RESERVE = 256 << 20  # bytes left for everything else
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# glibc's numbers of what mallopt sets (malloc.h), and what suits a program that makes large arrays again and again.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
KEPT = {TRIM_THRESHOLD: 2**31 - 1, MMAP_THRESHOLD: 32 << 20, ARENA_MAX: 1}
# Files of a control group, version 2 and 1: limit, use, and the prefix of counters that take in the groups below.
FILES = {2: ("memory.max", "memory.current", ""), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")}


def available_bytes() -> int | None:
    """Bytes that can be allocated without swapping, the container's own limit included; None where unknown."""
    known = [found for found in (_machine_bytes(), _container_bytes()) if found is not None]
    return min(known) if known else None


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for what it makes next; whether its C library can.

    Otherwise each array of some megabytes is mapped anew, page by page: 5,000 faults and a tenth of the time of a
    student's update.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    accepted = [mallopt(what, value) for what, value in KEPT.items()]  # each is asked for, whatever comes of the others
    return all(accepted)


def need_memory(wanted: int, what: str, advice: str) -> None:
    """Raise MemoryError unless `wanted` bytes are available with a reserve."""
    free = available_bytes()
    if free is not None and wanted + RESERVE > free:
        left = max(free - RESERVE, 0)
        raise MemoryError(f"{what}: needs {wanted / 1e9:.2f} GB of memory, {left / 1e9:.2f} GB are available; {advice}")


def _machine_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _container_bytes() -> int | None:
    """The least that any control group above this process leaves it; None without a limit."""
    known = [left for version, folder in _groups() if (left := _left(folder, *FILES[version])) is not None]
    return min(known) if known else None


def _groups() -> Iterator[tuple[int, Path]]:
    """(version, folder) of this process's groups and of those above them, as far as they can be seen from here."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, top = (1, CGROUPS / "memory") if controllers else (2, CGROUPS)
        # Inside a container the path may be the host's: then the top is the container's own group.
        folder = top / path.strip("/")
        yield from ((version, each) for each in (folder, *folder.parents) if each.is_relative_to(top))


def _left(folder: Path, limit_name: str, used_name: str, prefix: str) -> int | None:
    try:
        limit, used = (folder / limit_name).read_text().strip(), int((folder / used_name).read_text())
        counters = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) >= 1 << 60:  # version 1 writes "none" as the largest number
        return None
    # The page cache counts as used but is given back on demand.
    return int(limit) - used + sum(int(counters.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
