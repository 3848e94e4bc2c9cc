"""Input, config and output files of RANC's simulator (UA-RCL/RANC) as records that keep every field."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import described
from deploy.files import FormatError
from deploy.strict_json import Checker, Where, faults_error, parse, read_text

INT32 = (-(1 << 31), (1 << 31) - 1)
NEURON_KEYS = (
    *("weights", "leak", "positive_threshold", "negative_threshold", "reset_potential", "reset_mode"),
    *("current_potential", "destination_core_offset", "destination_axon", "destination_tick"),
)
PACKET_KEYS = ("destination_core", "destination_axon", "destination_tick")
MAX_NEURONS, MAX_OUTPUTS = 4096, 1 << 20  # so that one number in a file can not ask for all memory


@dataclass(frozen=True)
class RancConfig:
    """The simulator's config file; every key is needed there."""

    num_neurons: int  # of a core; lists may be shorter, the rest is inert
    num_axons: int
    num_cores_x: int
    num_cores_y: int
    num_weights: int = 4
    max_tick_offset: int = 16
    neuron_block_trace_verbosity: int = 0
    core_controller_trace_verbosity: int = 0
    scheduler_trace_verbosity: int = 0
    neuron_reset_type: int = 0  # 0: the negative rule applies below the threshold, 1: at it too


_CONFIG_RANGES = {
    "num_neurons": (1, MAX_NEURONS),
    "num_axons": (1, 256),
    "num_cores_x": (1, 1 << 15),
    "num_cores_y": (1, 1 << 15),
    "num_weights": (1, 8),
    "max_tick_offset": (2, 16),
    "neuron_reset_type": (0, 1),
}


@dataclass(frozen=True)
class Packet:
    """A spike of the input file: integrated `tick` ticks after that of its list."""

    core: tuple[int, int]  # x, y
    axon: int
    tick: int


@dataclass(frozen=True, eq=False, repr=False)
class RancCore:
    """A core of a axons and n neurons, both at most those of the config."""

    coordinates: tuple[int, int]  # x, y
    axons: NDArray[np.uint8]  # [a]  type of each
    connections: NDArray[np.bool_]  # [n, a]  a row is a neuron
    weights: NDArray[np.int64]  # [n, num_weights]
    offsets: NDArray[np.int64]  # [n, 2]  dx, dy from this core to the target
    columns: Mapping[str, NDArray[np.int64]]  # [n] each of the other NEURON_KEYS

    __repr__ = described


@dataclass(frozen=True, eq=False)
class RancModel:
    """An input file with the config it is for."""

    config: RancConfig
    packets: tuple[tuple[Packet, ...], ...]  # one list a tick
    bus: tuple[int, int]  # x, y of the output bus, which takes the place of a core
    num_outputs: int
    cores: tuple[RancCore, ...]

    def __repr__(self) -> str:
        return f"RancModel({len(self.cores)} cores, {self.num_outputs} outputs, {len(self.packets)} lists of packets)"


def read_config(path: Path) -> RancConfig:
    """Read a config file; raises FormatError that lists every fault by line, column and key."""
    text = read_text(path.read_bytes(), path)
    return config_of(parse(text, path), path, text)


def config_of(found: Mapping[str, Any], source: Path | str, text: str = "") -> RancConfig:
    """The config of an object; `text` is where faults are looked up."""
    reader = _Reader()
    names = [field.name for field in fields(RancConfig)]
    reader.known(found, names, ())
    values = {name: reader.integer(found, name, (), *_CONFIG_RANGES.get(name, INT32)) for name in names}
    if reader.faults:
        raise faults_error(source, text, reader.faults)
    return RancConfig(**values)


def config_text(config: RancConfig) -> str:
    return json.dumps(asdict(config))


def read_input(path: Path, config: RancConfig) -> RancModel:
    """Read an input file; raises FormatError that lists every fault by line, column and field."""
    return input_of(read_text(path.read_bytes(), path), config, path)


def input_of(text: str, config: RancConfig, source: Path | str) -> RancModel:
    """The model that a text holds; `source` names it in errors."""
    reader = _Reader()
    model = reader.model(parse(text, source), config)
    if model is None or reader.faults:
        raise faults_error(source, text, reader.faults)
    return model


def input_text(model: RancModel) -> str:
    """The whole input file as compact JSON; reading it gives an equal model."""
    packets = json.dumps([[_packet_facts(packet) for packet in tick] for tick in model.packets], separators=(",", ":"))
    bus = json.dumps({"coordinates": model.bus, "num_outputs": model.num_outputs}, separators=(",", ":"))
    cores = ",\n".join(_core_text(core) for core in model.cores)
    return f'{{"packets":{packets},\n"output_bus":{bus},\n"cores":[{cores}]}}\n'


def output_text(pins: NDArray[np.bool_]) -> str:
    """What the simulator writes for outputs [T, O]: a byte order mark, its own tick 0 without spikes, then T lines."""
    rows = np.zeros((len(pins) + 1, pins.shape[1]), bool)
    rows[1:] = pins
    marks = np.full((*rows.shape, 2), ord(" "), np.uint8)
    marks[:, :, 0] = rows + np.uint8(ord("0"))
    return "\ufeff" + "".join(row.tobytes().decode("ascii") + "\n" for row in marks)


def read_output(path: Path) -> NDArray[np.bool_]:
    """The outputs [T, O] of the simulator's text; raises FormatError naming the line."""
    lines = read_text(path.read_bytes(), path).splitlines()
    rows = [line.split(" ") for line in lines]
    width = max(len(rows[0]) if rows else 0, 2)  # a bus has one output at least
    for number, row in enumerate(rows, 1):
        if len(row) != width or row[-1] != "" or not set(row[:-1]) <= {"0", "1"}:
            raise FormatError(f"{path}: line {number}: must be {width - 1} digits 0 or 1, each with a space after it")
    if not rows or "1" in rows[0]:
        raise FormatError(f"{path}: line 1: must be there and hold zeros, the simulator's tick 0")
    bits = [[mark == "1" for mark in row[:-1]] for row in rows[1:]]
    return np.array(bits, bool).reshape(len(rows) - 1, width - 1)


def _packet_facts(packet: Packet) -> dict[str, Any]:
    return dict(zip(PACKET_KEYS, (packet.core, packet.axon, packet.tick), strict=True))


def _core_text(core: RancCore) -> str:
    rows = np.full((*core.connections.shape, 2), ord(","), np.uint8)
    rows[:, :, 0] = core.connections + np.uint8(ord("0"))
    connections = ",".join(f"[{row.tobytes()[:-1].decode('ascii')}]" for row in rows)
    numbers = {key: column.tolist() for key, column in core.columns.items()}
    numbers |= {"weights": core.weights.tolist(), "destination_core_offset": core.offsets.tolist()}
    neurons = [{key: numbers[key][neuron] for key in NEURON_KEYS} for neuron in range(len(core.weights))]
    facts = {"coordinates": core.coordinates, "axons": core.axons.tolist(), "neurons": neurons}
    return f'{json.dumps(facts, separators=(",", ":"))[:-1]},"connections":[{connections}]}}'


class _Reader(Checker):
    """Turns a parsed input file into records."""

    def model(self, top: Mapping[str, Any], config: RancConfig) -> RancModel | None:
        self.known(top, ("packets", "output_bus", "cores"), ())
        bus = self._object(top, "output_bus", ("coordinates", "num_outputs"), ())
        place = self._cell(bus, "coordinates", ("output_bus",), config)
        outputs = self.integer(bus, "num_outputs", ("output_bus",), 1, MAX_OUTPUTS)
        lists, blocks = self._list(top, "packets", ()), self._list(top, "cores", ())
        packets = tuple(self._packets(found, ("packets", i), config) for i, found in enumerate(lists))
        cores = [self._core(block, ("cores", i), config) for i, block in enumerate(blocks)]
        if self.faults:
            return None
        made = tuple(core for core in cores if core is not None)
        self._places([core.coordinates for core in made], place)
        self._targets(made, place, outputs, config)
        known = {core.coordinates for core in made}
        for tick, found in enumerate(packets):
            for index, packet in enumerate(found):
                if packet.core not in known:
                    self.fault(("packets", tick, index, "destination_core"), f"no core at {list(packet.core)}")
        return RancModel(config, packets, place, outputs, made)

    def _places(self, coordinates: list[tuple[int, int]], bus: tuple[int, int]) -> None:
        taken = {bus}
        for index, place in enumerate(coordinates):
            if place in taken:
                self.fault(("cores", index, "coordinates"), f"{list(place)} is taken, one core or bus a cell")
            taken.add(place)

    def _targets(self, cores: tuple[RancCore, ...], bus: tuple[int, int], outputs: int, config: RancConfig) -> None:
        size = np.array([config.num_cores_x, config.num_cores_y])
        for index, core in enumerate(cores):
            target = core.offsets + np.array(core.coordinates)
            for neuron in np.flatnonzero(((target < 0) | (target >= size)).any(axis=1))[:3]:
                where = ("cores", index, "neurons", int(neuron), "destination_core_offset")
                self.fault(where, f"leads to {target[neuron].tolist()}, outside the grid of {size.tolist()}")
            to_bus = (target == np.array(bus)).all(axis=1)
            limit = np.where(to_bus, outputs, config.num_axons)
            axon = core.columns["destination_axon"]
            for neuron in np.flatnonzero(axon >= limit)[:3]:
                where = ("cores", index, "neurons", int(neuron), "destination_axon")
                self.fault(where, f"found {axon[neuron]}, allowed 0..{limit[neuron] - 1}")

    def _packets(self, found: Any, where: Where, config: RancConfig) -> tuple[Packet, ...]:
        if type(found) is not list:
            self.fault(where, "must be a list of packets")
            return ()
        return tuple(self._packet(item, (*where, index), config) for index, item in enumerate(found))

    def _packet(self, item: Any, where: Where, config: RancConfig) -> Packet:
        if type(item) is not dict:
            self.fault(where, "must be an object")
            return Packet((0, 0), 0, 0)
        self.known(item, PACKET_KEYS, where)
        place = self._cell(item, "destination_core", where, config)
        axon = self.integer(item, "destination_axon", where, 0, config.num_axons - 1)
        return Packet(place, axon, self._tick(item, where, config))

    def _tick(self, item: Mapping[str, Any], where: Where, config: RancConfig) -> int:
        # One below the simulator's own check: it takes max_tick_offset - 1 and drops the spike when it runs.
        return self.integer(item, "destination_tick", where, 0, config.max_tick_offset - 2)

    def _core(self, block: Any, where: Where, config: RancConfig) -> RancCore | None:
        if type(block) is not dict:
            self.fault(where, "must be an object")
            return None
        before = len(self.faults)
        self.known(block, ("coordinates", "axons", "connections", "neurons"), where)
        place = self._cell(block, "coordinates", where, config)
        axons = self._numbers(block.get("axons"), (*where, "axons"), 0, config.num_weights - 1)
        if len(axons) > config.num_axons:
            self.fault((*where, "axons"), f"{len(axons)} axons, the config allows {config.num_axons}")
        neurons, rows = self._list(block, "neurons", where), self._list(block, "connections", where)
        if len(neurons) > config.num_neurons:
            self.fault((*where, "neurons"), f"{len(neurons)} neurons, the config allows {config.num_neurons}")
        if len(rows) != len(neurons):
            self.fault((*where, "connections"), f"{len(rows)} rows, must be one for each of {len(neurons)} neurons")
        connections = self._connections(rows, len(axons), (*where, "connections"))
        made = [self._neuron(item, (*where, "neurons", i), config) for i, item in enumerate(neurons)]
        if len(self.faults) > before:
            return None
        table = {key: [neuron[key] for neuron in made] for key in NEURON_KEYS}
        return RancCore(
            coordinates=place,
            axons=np.array(axons, np.uint8),
            connections=connections,
            weights=np.array(table.pop("weights"), np.int64).reshape(len(made), config.num_weights),
            offsets=np.array(table.pop("destination_core_offset"), np.int64).reshape(len(made), 2),
            columns={key: np.array(values, np.int64) for key, values in table.items()},
        )

    def _connections(self, rows: list[Any], width: int, where: Where) -> NDArray[np.bool_]:
        for index, row in enumerate(rows):
            if type(row) is not list or len(row) != width or not set(map(type, row)) <= {int} or not set(row) <= {0, 1}:
                self.fault((*where, index), f"must be {width} digits 0 or 1, one for each axon")
                return np.zeros((0, width), bool)
        return np.array(rows, np.uint8).reshape(len(rows), width).astype(bool)

    def _neuron(self, item: Any, where: Where, config: RancConfig) -> dict[str, Any]:
        if type(item) is not dict:
            self.fault(where, "must be an object")
            return {}
        self.known(item, NEURON_KEYS, where)
        ranges = {"reset_mode": (0, 1), "destination_axon": (0, INT32[1])}
        made: dict[str, Any] = {
            key: self.integer(item, key, where, *ranges.get(key, INT32))
            for key in NEURON_KEYS
            if key not in ("weights", "destination_core_offset", "destination_tick")
        }
        made["destination_tick"] = self._tick(item, where, config)
        for key, count in (("weights", config.num_weights), ("destination_core_offset", 2)):
            made[key] = self._numbers(item.get(key), (*where, key), *INT32, count=count)
        return made

    def _numbers(self, found: Any, where: Where, low: int, high: int, count: int | None = None) -> list[int]:
        if type(found) is not list or (count is not None and len(found) != count):
            self.fault(where, "must be a list of integers" if count is None else f"must be a list of {count} integers")
            return [0] * (count or 0)
        for index, value in enumerate(found):
            if type(value) is not int or not low <= value <= high:
                self.fault((*where, index), f"found {str(value)[:40]}, allowed {low}..{high}")
                return [0] * len(found)
        return found

    def _cell(self, holder: Mapping[str, Any], key: str, where: Where, config: RancConfig) -> tuple[int, int]:
        x, y = self._numbers(holder.get(key), (*where, key), 0, INT32[1], count=2)
        if x >= config.num_cores_x or y >= config.num_cores_y:
            self.fault((*where, key), f"[{x}, {y}] is outside the grid of {config.num_cores_x} x {config.num_cores_y}")
        return x, y

    def _object(self, holder: Mapping[str, Any], key: str, allowed: Collection[str], where: Where) -> dict[str, Any]:
        found = holder.get(key)
        if type(found) is not dict:
            self.fault((*where, key), "missing or no object")
            return {}
        self.known(found, allowed, (*where, key))
        return found

    def _list(self, holder: Mapping[str, Any], key: str, where: Where) -> list[Any]:
        found = holder.get(key)
        if type(found) is not list:
            self.fault((*where, key), "missing or no list")
            return []
        return found
