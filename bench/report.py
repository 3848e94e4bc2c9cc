"""Reports: what a benchmark measured, with the machine and the versions it was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl.files import write_json
from rl.manifest import now, versions

FOLDER = Path("runs/bench")


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, system, and installed versions."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu(),
        "cores": usable,
        "load_1min": load,  # what else was running
        "system": platform.platform(),
        "versions": versions(),
    }


def write_report(name: str, rows: Sequence[Mapping[str, Any]], extra: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write `<folder>/<name>.json`: measured rows, what else matters (`extra`), machine, date. Returns its path."""
    path = folder / f"{name}.json"
    report = {"name": name, "made": now(), "machine": machine(), "rows": [dict(row) for row in rows], **extra}
    write_json(path, report)
    return path


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
