"""Whole files: written under a temporary name and renamed, read with one clear error."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class FormatError(ValueError):
    """A file that is not what it should be: truncated, changed, foreign, or from a newer version."""


def digest(data: bytes) -> str:
    """sha256 of the bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader meets the old one or the new one, never half; raises OSError with its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write to an open file does not know where it was
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def need_place(folder: Path) -> None:
    """Raise OSError where a folder cannot be made or written: better before the work than after it. Makes nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def tidy(folder: Path) -> None:
    """Remove what a kill left half-written in a folder; nothing else may be writing there."""
    for part in folder.glob("*.part"):
        part.unlink()


def plain(value: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object: sorted keys, no NaN; equal objects have equal bytes."""
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def spelled(value: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON object's file; raises ValueError for NaN and infinities."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, whole or not at all; raises OSError, ValueError for NaN and infinities."""
    write_whole(path, spelled(value))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises FormatError naming the file (FileNotFoundError where there is none)."""
    try:
        value = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as cause:
        raise FormatError(f"{path}: not readable as JSON ({cause}); make or fetch it again") from cause
    if not isinstance(value, dict):
        raise FormatError(f"{path}: holds a {type(value).__name__}, must be a JSON object; make or fetch it again")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
