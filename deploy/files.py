"""Files of named arrays with one JSON header: whole or absent, checked before use, never pickled."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = "header.json"
Arrays = dict[str, NDArray[Any]]
# What the standard library says of damaged archives: a flipped bit may announce encryption (RuntimeError), another
# compression (LZMAError, NotImplementedError) or a field beyond the end (struct.error, IndexError).
_UNREADABLE = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


class FormatError(ValueError):
    """A file that is not what it should be: truncated, changed, foreign, or from a newer version."""


def digest_of(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> str:
    """sha256 (hex) over every array's name, dtype, shape and bytes, and over the facts as sorted JSON."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader meets the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_arrays(
    path: Path, kind: str, version: tuple[int, int], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> str:
    """Write arrays and JSON facts as one compressed npz; returns the digest of their contents (hex)."""
    digest = digest_of(arrays, facts)
    header = {"kind": kind, "version": list(version), "digest": digest, "facts": facts}
    whole = io.BytesIO()
    np.savez_compressed(whole, allow_pickle=False, **arrays)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date keeps equal contents equal to the byte.
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, sort_keys=True))
    write_whole(path, whole.getvalue())
    return digest


def read_arrays(path: Path, kind: str, major: int) -> tuple[dict[str, Any], Arrays, str]:
    """Read (facts, arrays, digest); raises FormatError naming the file and the field before anything is used."""
    header, arrays = _unpack(path)
    if header.get("kind") != kind:
        raise FormatError(f"{path}: field kind is {header.get('kind')!r}, must be {kind!r}; name a file of that kind")
    version = header.get("version")
    if not (isinstance(version, list) and len(version) == 2 and version[0] == major):
        raise FormatError(f"{path}: field version is {version}, this program reads {major}.x; use a matching release")
    facts = header.get("facts")
    if not isinstance(facts, dict):
        raise FormatError(f"{path}: field facts is missing; make the file again")
    digest = digest_of(arrays, facts)
    if header.get("digest") != digest:
        raise FormatError(
            f"{path}: field digest is {header.get('digest')}, the contents have {digest}; "
            "the file was changed or damaged, make or fetch it again"
        )
    return facts, arrays, digest


def _unpack(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The header and the arrays of a file, nothing checked but that they can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(HEADER))
            names = [name for name in archive.namelist() if name != HEADER]
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in names}
    except FileNotFoundError:
        raise
    except _UNREADABLE as cause:
        raise FormatError(f"{path}: not a readable file of ours ({cause}); make or fetch it again") from cause
    if not isinstance(header, dict):
        raise FormatError(f"{path}: field {HEADER} is no JSON object; make or fetch it again")
    return header, arrays


def _array(data: bytes) -> NDArray[Any]:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
