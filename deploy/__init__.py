"""Student -> chip -> game: the compiler, the emulators and the real-time loop.

The library's main names are here too, each fetched from its file when first asked for: `from deploy import CoreGraph`.
"""

from importlib import import_module
from typing import Any

# Where each name lives. Nothing is imported before it is used: a compiled loop is not needed to read a file.
_HOME = {
    "AxonSpikes": "spikes",
    "BatchRunner": "batch",
    "CHIPS": "chip",
    "Chip": "chip",
    "ChipRunner": "runner",
    "CompileError": "chip",
    "Compiled": "compiled",
    "CoreGraph": "cores",
    "Damage": "damage",
    "DenseEngine": "dense",
    "ENGINES": "engines",
    "EmulationError": "emulator",
    "Emulator": "emulator",
    "FormatError": "files",
    "IntegerSpec": "integer_spec",
    "LazyEngine": "engine",
    "LineSpikes": "spikes",
    "NeuronTypes": "cores",
    "PinSpikes": "spikes",
    "SpecError": "spec",
    "StudentSpec": "spec",
    "Trace": "cores",
    "WaveRunner": "wave",
    "chip_named": "chip",
    "compile_spec": "compiler",
    "engine_named": "engines",
    "estimate": "energy",
    "first_difference": "verification",
    "load": "formats",
    "load_compiled": "compiled",
    "load_graph": "graphs",
    "load_integers": "integer_spec",
    "load_spec": "spec",
    "load_spikes": "formats",
    "random_damage": "damage",
    "record": "engines",
    "save": "formats",
    "save_compiled": "compiled",
    "save_graph": "graphs",
    "save_integers": "integer_spec",
    "save_spec": "spec",
    "save_spikes": "formats",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"deploy: no name {name!r} here; `from deploy import {name}` reads a file of that name")
    return getattr(import_module(f"deploy.{_HOME[name]}"), name)
