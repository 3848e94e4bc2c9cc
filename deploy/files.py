"""Files of named arrays with one JSON header: whole or absent, checked before use, never pickled."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = "header.json"
MAX_BYTES = 3 << 30  # of all arrays of a file, unpacked; a board of 64 full chips takes 2.8 GB
Arrays = dict[str, NDArray[Any]]
# What the standard library says of damaged archives: a flipped bit may announce encryption (RuntimeError), another
# compression (LZMAError, NotImplementedError) or a field beyond the end (struct.error, IndexError). An array's header
# is read as a Python literal, which adds SyntaxError and TokenError.
_UNREADABLE = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, OverflowError, MemoryError, TypeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, SyntaxError, tokenize.TokenError),
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
    """Write a file so that a reader meets the old one or the new one, never half; raises OSError with its name.

    As in rl/files.py: neither library may import the other.
    """
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


def read_arrays(path: Path, kind: str, major: int, limit: int = MAX_BYTES) -> tuple[dict[str, Any], Arrays, str]:
    """Read (facts, arrays, digest); raises FormatError naming the file and the field before anything is used.

    A file that would unpack to more than `limit` bytes is refused before any of them is allocated.
    """
    header, arrays = _unpack(path, limit)
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


def kind_of(path: Path) -> str | None:
    """The kind that an npz of ours says it is, None where the file is none; nothing else is checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), MAX_BYTES)
            header = json.loads(_member(archive, archive.getinfo(HEADER)))
    except _UNREADABLE:
        return None
    kind = header.get("kind") if isinstance(header, dict) else None
    return kind if isinstance(kind, str) else None


def _unpack(path: Path, limit: int) -> tuple[dict[str, Any], Arrays]:
    """The header and the arrays of a file, nothing checked but that they can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, limit)
            header = json.loads(_member(archive, archive.getinfo(HEADER)))
            arrays = {m.filename.removesuffix(".npy"): _array(archive, m) for m in members if m.filename != HEADER}
    except FileNotFoundError:
        raise
    except _UNREADABLE as cause:
        raise FormatError(f"{path}: not a readable file of ours ({cause}); make or fetch it again") from cause
    if not isinstance(header, dict):
        raise FormatError(f"{path}: field {HEADER} is no JSON object; make or fetch it again")
    return header, arrays


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    """Raise ValueError where the names repeat or the sizes announced are beyond any file of ours."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("two members of one name")
    total = sum(member.file_size for member in members)
    if total > limit:
        raise ValueError(f"{total:,} bytes unpacked, allowed {limit:,}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # An explicit size bounds the decompressor: without one a stream longer than announced is unpacked before it is cut.
    with archive.open(member) as stream:
        return stream.read(member.file_size)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """One npy member; raises ValueError where its header claims another size than it has."""
    data = io.BytesIO(_member(archive, member))
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(data)
    if version not in versions:
        raise ValueError(f"{member.filename}: npy version {version}, allowed 1.0 and 2.0")
    shape, _, dtype = versions[version](data)
    claimed, found = math.prod(shape) * dtype.itemsize, member.file_size - data.tell()
    if claimed != found:
        raise ValueError(f"{member.filename}: the header claims {claimed:,} bytes, there are {found:,}")
    data.seek(0)
    return np.lib.format.read_array(data, allow_pickle=False)
