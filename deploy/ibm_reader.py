"""IBM's model files read: JSON with C comments and the key `core` once for each core.

The grammar is that of the files in markplagge/NeMo and of the writer in vmonaco/pytruenorth. What is read is checked
for what every model has to be; whether targets exist is asked when a graph is made of it (`deploy.ibm_graph`).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, PIN_ROW
from deploy.ibm import FLAGS, LISTS, LOWEST_CORE, PARAMETERS, RECORD, IbmCore, IbmCrossbar, IbmModel, IbmType
from deploy.ibm_ranges import expand
from deploy.strict_json import Checker, Repeated, Where, faults_error, parse, read_text

_CORE_KEYS = {"metadata", "id", "timeScaleExponent", "rngSeed", "neurons", "crossbar"}
_MISSING = object()
_T = TypeVar("_T")


def read_model(path: Path) -> IbmModel:
    """Read a model file; raises FormatError that lists every fault by line, column and field."""
    return model_of(read_text(path.read_bytes(), path), path)


def model_of(text: str, source: Path | str) -> IbmModel:
    """The model that a text holds; `source` names it in errors."""
    top = parse(text, source, comments=True, repeats=("core",))
    reader = _Reader()
    model = reader.model(top)
    if reader.faults or model is None:
        raise faults_error(source, text, reader.faults, repeats=("core",))
    return model


class _Reader(Checker):
    """Turns a parsed model into records."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0
        self._names: dict[str, int] = {}
        self._records: bool | None = None

    def model(self, top: dict[str, Any]) -> IbmModel | None:
        self.known(top, {"model", "crossbarTypes", "neuronTypes", "core"}, ())
        header = self._facts(top, "model", ())
        size = self.integer(header or {}, "crossbarSize", ("model",), 1, 256)
        self.integer(header or {}, "coreCount", ("model",), 1, 1 << 24)
        if self.faults or header is None:
            return None
        self._size = size
        prototypes = self._prototypes(top) if "crossbarTypes" in top else None
        types = tuple(filter(None, self._each(top, "neuronTypes", self._type)))
        self._name_types(types)
        found = top.get("core", _MISSING)
        blocks = found if isinstance(found, Repeated) else [] if found is _MISSING else [found]
        if not blocks:
            self.fault((), "no core; a model has at least one")
        cores = tuple(filter(None, (self._core(block, ("core", i)) for i, block in enumerate(blocks))))
        self._distinct([core.id for core in cores], "core id")
        return None if self.faults else IbmModel(header, prototypes, types, cores, bool(self._records))

    def _prototypes(self, top: dict[str, Any]) -> tuple[IbmCrossbar, ...]:
        made = tuple(filter(None, self._each(top, "crossbarTypes", self._prototype)))
        self._distinct([prototype.name for prototype in made], "crossbar name")
        return made

    def _prototype(self, item: Any, where: Where) -> IbmCrossbar | None:
        if not self._is(item, dict, where):
            return None
        self.known(item, {"name", "crossbar"}, where)
        name = self._value(item, "name", str, where)
        if name == "":
            self.fault((*where, "name"), "empty, must name the crossbar")
        body = self._value(item, "crossbar", dict, where)
        return self._crossbar(body, name or "", (*where, "crossbar")) if body is not None else None

    def _crossbar(self, body: dict[str, Any], name: str, where: Where) -> IbmCrossbar | None:
        self.known(body, {"rows"}, where)
        rows = self._value(body, "rows", list, where)
        if rows is None:
            return None
        where = (*where, "rows")
        if len(rows) != self._size:
            self.fault(where, f"{len(rows)} rows, must be {self._size} as model.crossbarSize says")
            return None
        kinds, synapses = np.zeros(self._size, np.uint8), []
        for axon, row in enumerate(rows):
            if not isinstance(row, dict) or set(row) != {"type", "synapses"}:
                self.fault((*where, axon), "must be an object of type and synapses")
            elif row["type"] not in ("S0", "S1", "S2", "S3"):
                self.fault((*where, axon, "type"), f"found {row['type']!r}, allowed S0, S1, S2, S3")
            else:
                kinds[axon] = int(row["type"][1])
                synapses.append(self._row(row["synapses"], (*where, axon, "synapses")))
        if len(synapses) < self._size or None in synapses:
            return None
        bits = np.frombuffer(b"".join(row for row in synapses if row is not None), np.uint8)
        return IbmCrossbar(name, kinds, bits.reshape(self._size, -1))

    def _row(self, text: Any, where: Where) -> bytes | None:
        """The bytes of one row: two hex digits each, a space between."""
        count = -(-self._size // 8)
        try:
            if not isinstance(text, str) or len(text) != 3 * count - 1 or text[2::3] != " " * (count - 1):
                raise ValueError(text)
            row = bytes.fromhex(text)
            if len(row) != count:
                raise ValueError(text)
        except ValueError:
            self.fault(where, f"found {str(text)[:30]!r}, must be {count} bytes as hex digits with a space between")
            return None
        if row[-1] & ((1 << (8 * count - self._size)) - 1):
            self.fault(where, f"synapses beyond neuron {self._size - 1}")
            return None
        return row

    def _type(self, item: Any, where: Where) -> IbmType | None:
        if not self._is(item, dict, where):
            return None
        self.known(item, {"name", "class", *PARAMETERS}, where)
        name = self._value(item, "name", str, where)
        kind = self._value(item, "class", str, where) if "class" in item else ""
        values = {key: self._parameter(item, key, where) for key in PARAMETERS}
        return IbmType(name, kind, values) if name is not None and kind is not None else None

    def _parameter(self, item: dict[str, Any], key: str, where: Where) -> int:
        low, high = PARAMETERS[key]
        if key in FLAGS:
            return int(self._value(item, key, bool, where) or 0)
        value = self.integer(item, key, where, low, high)
        if low == -1 and type(item.get(key)) is int and item[key] == 0:
            self.fault((*where, key), "found 0, allowed -1 and 1")
        return value

    def _name_types(self, types: tuple[IbmType, ...]) -> None:
        self._distinct([kind.name for kind in types], "neuron type name")
        if len(types) > 65_535:
            self.fault(("neuronTypes",), f"{len(types)} types, allowed 65535")
        self._names = {kind.name: place + 1 for place, kind in enumerate(types)}

    def _core(self, block: Any, where: Where) -> IbmCore | None:
        if not self._is(block, dict, where):
            return None
        self.known(block, _CORE_KEYS, where)
        metadata = self._facts(block, "metadata", where) if "metadata" in block else None
        identity = self.integer(block, "id", where, 0, (1 << 31) - 1)
        scale = self.integer(block, "timeScaleExponent", where, -(1 << 31), (1 << 31) - 1)
        seed = self.integer(block, "rngSeed", where, 0, (1 << 32) - 1)
        lists = self._neurons(block, where)
        body = self._value(block, "crossbar", dict, where)
        prototype, crossbar = self._core_crossbar(body, (*where, "crossbar")) if body is not None else ("", None)
        if lists is None or self.faults:
            return None
        made = {key: values.astype(np.int32) for key, values in lists.items()}
        return IbmCore(
            id=identity,
            metadata=metadata,
            time_scale=scale,
            seed=seed,
            dendrites=made["dendrites"],
            types=made["types"],
            dest_cores=made["destCores"],
            dest_axons=made["destAxons"],
            dest_delays=made["destDelays"],
            prototype=prototype,
            crossbar=crossbar,
        )

    def _core_crossbar(self, body: dict[str, Any], where: Where) -> tuple[str, IbmCrossbar | None]:
        if "rows" in body:
            return "", self._crossbar(body, "", where)
        self.known(body, {"name"}, where)
        name = self._value(body, "name", str, where)
        if name == "":
            self.fault((*where, "name"), "empty, must name a crossbar")
        return name or "", None

    def _neurons(self, block: dict[str, Any], where: Where) -> dict[str, NDArray[np.int64]] | None:
        found, where = block.get("neurons", _MISSING), (*where, "neurons")
        records = isinstance(found, list) and not isinstance(found, Repeated)
        if not records and not isinstance(found, dict):
            self.fault(where, "must be an object of lists, or a list of objects")
            return None
        if self._records is None:
            self._records = records
            self._check_type_names()
        if records != self._records:
            self.fault(where, "neurons are lists in one core and objects in another, must be alike")
            return None
        values = self._from_records(found, where) if records else self._from_lists(found, where)
        return None if values is None else self._checked(values, where)

    def _check_type_names(self) -> None:
        """Lists name their types by number, hence all type names must be numbers."""
        for place, name in enumerate(self._names if not self._records else ()):
            number = int(name[1:], 16) if len(name) == 9 and name[0] == "N" and set(name[1:]) <= _HEX else 0
            if not number:
                self.fault(("neuronTypes", place, "name"), f"found {name[:40]!r}, must be N and 8 hex digits, not 0")

    def _from_lists(self, found: dict[str, Any], where: Where) -> dict[str, NDArray[Any]] | None:
        self.known(found, set(LISTS), where)
        made = {}
        for key in LISTS:
            items = self._value(found, key, list, where)
            if items is None:
                continue
            try:
                made[key] = np.array(expand(items, self._size), object)
            except ValueError as cause:
                self.fault((*where, key), str(cause))
        return made if len(made) == len(LISTS) else None

    def _from_records(self, found: list[Any], where: Where) -> dict[str, NDArray[Any]] | None:
        before = len(self.faults)
        made: dict[str, list[int]] = {key: [] for key in LISTS}
        for place, item in enumerate(found[: self._size + 1]):
            if not self._is(item, dict, (*where, place)):
                continue
            self.known(item, set(RECORD), (*where, place))
            for key, column in RECORD.items():
                made[column].append(self._record_field(item, key, (*where, place)))
        return {k: np.array(v, object) for k, v in made.items()} if len(self.faults) == before else None

    def _record_field(self, item: dict[str, Any], key: str, where: Where) -> int:
        if key != "type":
            return self.integer(item, key, where, -(1 << 31), (1 << 31) - 1)
        name = self._value(item, key, str, where)
        if name is not None and name not in self._names:
            self.fault((*where, key), f"found {name[:40]!r}, which neuronTypes does not name")
        return self._names.get(name or "", 0)

    def _checked(self, lists: dict[str, NDArray[Any]], where: Where) -> dict[str, NDArray[np.int64]] | None:
        """Lengths and ranges; the values may be integers of any size up to here."""
        before = len(self.faults)
        ranges = {"dendrites": (0, self._size - 1), "types": (0, (1 << 31) - 1)}
        ranges |= {"destCores": (LOWEST_CORE, (1 << 31) - 1), "destAxons": (-1, PIN_ROW - 1), "destDelays": (0, 15)}
        for key, values in lists.items():
            if len(values) != self._size:
                self.fault((*where, key), f"{len(values)} values, must be {self._size}")
            low, high = ranges[key]
            for place in np.flatnonzero((values < low) | (values > high))[:1] if len(values) else ():
                self.fault((*where, key), f"value {place} is {str(values[place])[:40]}, allowed {low}..{high}")
        if len(self.faults) > before:
            return None
        made = {key: values.astype(np.int64) for key, values in lists.items()}
        if len(np.unique(made["dendrites"])) < self._size:
            self.fault((*where, "dendrites"), "a neuron twice, must be each once")
        cores = made["destCores"]
        for place in np.flatnonzero((cores > FIRST_PIN_CORE) & (cores < -2))[:1]:
            allowed = f"allowed a core's id, -1, -2, and {FIRST_PIN_CORE} and below"
            self.fault((*where, "destCores"), f"value {place} is {cores[place]}, {allowed}")
        return made

    def _each(self, top: dict[str, Any], key: str, read: Any) -> list[Any]:
        items = self._value(top, key, list, ())
        return [read(item, (key, place)) for place, item in enumerate(items or ())]

    def _is(self, item: Any, kind: type, where: Where) -> bool:
        good = type(item) is kind
        if not good:
            self.fault(where, f"found {_shown(item)}, must be {_WORDS[kind]}")
        return good

    def _value(self, holder: dict[str, Any], key: str, kind: type[_T], where: Where) -> _T | None:
        value = holder.get(key, _MISSING)
        if value is _MISSING:
            self.fault((*where, key), "missing")
            return None
        return value if self._is(value, kind, (*where, key)) else None

    def _facts(self, holder: dict[str, Any], key: str, where: Where) -> dict[str, Any] | None:
        """An object that is kept as it is; only its JSON must be one that can be written again."""
        value = self._value(holder, key, dict, where)
        if value is not None and _holds_repeats(value):
            self.fault((*where, key), "a key stands twice")
        return value

    def _distinct(self, values: list[Any], what: str) -> None:
        if len(set(values)) < len(values):
            twice = Counter(values).most_common(1)[0][0]
            self.fault((), f"{what} {str(twice)[:40]!r} twice, must differ")


_HEX = set("0123456789ABCDEFabcdef")
_WORDS = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}


def _shown(item: Any) -> str:
    return f"{_WORDS[type(item)]}" if isinstance(item, (dict, list)) and type(item) in _WORDS else repr(item)[:40]


def _holds_repeats(value: Any) -> bool:
    if isinstance(value, Repeated):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_repeats(item) for item in inner)
