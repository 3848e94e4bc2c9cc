"""Memory: asked for before it is taken, because a machine that runs out of it kills without a word."""

from __future__ import annotations

from pathlib import Path

RESERVE = 256 << 20  # bytes left for everything else


def available_bytes() -> int | None:
    """Bytes that can be allocated without swapping, the container's own limit included; None where unknown."""
    known = [found for found in (_machine_bytes(), _container_bytes()) if found is not None]
    return min(known) if known else None


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
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (folder / "memory.max").read_text().strip(), (folder / "memory.current").read_text().strip()
        cache = [
            line.split()[1] for line in (folder / "memory.stat").read_text().splitlines() if line.startswith("file ")
        ]
    except OSError:
        return None
    # The page cache counts as used but is given back on demand.
    return None if limit == "max" else int(limit) - int(used) + int(cache[0] if cache else 0)
