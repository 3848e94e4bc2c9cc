"""Graphs, models and files that the tests of foreign formats share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from cases import random_graph
from numpy.typing import NDArray

from deploy.cores import CoreGraph
from deploy.ibm import FLAGS, PARAMETERS
from deploy.spikes import AxonSpikes, PinSpikes, Spikes


def ibm_graph(seed: int, stochastic: bool = False, **sizes: int) -> CoreGraph:
    """A random graph that IBM's terms can express: reset values of +-(2^k - 1), the negative rule below -beta."""
    graph = random_graph(seed, stochastic=stochastic, **sizes)
    reset = np.array([-3, -1, 0, 1, 3, 7], np.int32)[graph.types.reset % 6]
    weight, leak = (np.clip(column, -255, 255) for column in (graph.types.weight, graph.types.leak))
    types = replace(graph.types, reset=reset, weight=weight, leak=leak)
    return replace(graph, types=types, negative_inclusive=False)


def ranc_graph_case(seed: int, **sizes: int) -> CoreGraph:
    """A random graph that RANC's terms can express: no floor, no reversal, a reset."""
    graph = random_graph(seed, **sizes)
    none = np.zeros_like(graph.types.kappa)
    floored = (graph.types.gamma == 0) & (graph.types.reset == graph.types.beta)
    kappa = np.where(floored, graph.types.kappa, 0).astype(np.uint8)
    gamma = np.minimum(graph.types.gamma, 1)
    return replace(graph, types=replace(graph.types, kappa=kappa, epsilon=none, gamma=gamma))


def random_spikes(graph: CoreGraph, ticks: int, seed: int, share: float = 0.1) -> AxonSpikes:
    """Spikes to any axon of a graph, some twice."""
    rng = np.random.default_rng(seed)
    c, a, _ = graph.shape
    count = max(int(share * ticks * c * a / 4), 1)
    columns = (rng.integers(0, high, count).astype(np.int32) for high in (ticks, c, a))
    return AxonSpikes(*columns)


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def same(one: Spikes, other: Spikes) -> bool:
    """Of one kind and equal in every column."""
    equal = all(np.array_equal(getattr(one, name), value) for name, value in vars(other).items())
    return equal and type(one) is type(other)


def spike_rows(spikes: AxonSpikes | PinSpikes) -> NDArray[np.int32]:
    """Every field of the spikes as rows, each once, in order."""
    return np.asarray(np.unique(np.stack(list(vars(spikes).values()), axis=1), axis=0))


def with_types(graph: CoreGraph, **columns: Any) -> CoreGraph:
    """The graph with these values in its neuron table, for all types."""
    made = {}
    for name, value in columns.items():
        like = getattr(graph.types, name)
        made[name] = np.broadcast_to(np.asarray(value, like.dtype), like.shape).copy()
    return replace(graph, types=replace(graph.types, **made))


SMALL_IBM = """{
 /* a comment with "quotes" */
 "model":{"coreCount":2, "neuronclass":"NeuronGeneral", "crossbarSize":9}, // of two cores
 "crossbarTypes":[{"name":"proto","crossbar":{"rows":[ROWS]}}],
 "neuronTypes":[TYPE],
 "core":{"metadata":{"coreletClass":"a","parentCoreletId":[-1]},"id":3,"timeScaleExponent":0,"rngSeed":4294967295,
  "neurons":{"dendrites":["0:8"],"types":["1x4",0,"10x4"],"destCores":[7,3,-1,-2,-1,"-32x4"],
   "destAxons":["0:2:2",5,-1,0,0,1,2,3],"destDelays":["1:3","1x6"]},
  "crossbar":{"name":"proto"}},
 "core":{"id":7,"timeScaleExponent":0,"rngSeed":0,
  "neurons":{"dendrites":["8:-1:0"],"types":["1x9"],"destCores":["-33x9"],"destAxons":["8:-1:0"],"destDelays":["15x9"]},
  "crossbar":{"rows":[ROWS]}}
}
"""
_TYPE = (
    '{"name":"NAME","class":"NeuronGeneral","sigma0":-1,"sigma1":1,"sigma2":-1,"sigma3":1,"s0":3,"s1":4,"s2":0,"s3":9,'
    '"b0":false,"b1":false,"b2":false,"b3":false,"sigma_lambda":-1,"lambda":0,"c_lambda":false,"epsilon":true ,'
    '"alpha":2,"beta":1,"TM":0,"gamma":0,"kappa":false,"sigma_VR":-1,"VR":2,"V":-4}'
)
_ROWS = ",".join(f'{{"type":"S{a % 4}","synapses":"{0x11 * (a + 3):02X} {0x80 * (a % 2):02x}"}}' for a in range(9))
SMALL_IBM = SMALL_IBM.replace("ROWS", _ROWS)
SMALL_IBM = SMALL_IBM.replace("TYPE", ", ".join(_TYPE.replace("NAME", f"N0000000{name}") for name in ("A", 1)))

RECORDS = """{"model": {"coreCount": 1, "neuronClass": "NeuronGeneral", "crossbarSize": 2, "networking": "INTRA"},
 "neuronTypes": [{TYPE, "name": "-77"}],
 "core": {"id": 0, "rngSeed": 1, "timeScaleExponent": 0, "neurons": [
   {"type": "-77", "dendrite": 1, "destCore": -32, "destAxon": 4, "delay": 1},
   {"type": "-77", "dendrite": 0, "destCore": -1, "destAxon": -1, "delay": 2}],
  "crossbar": {"rows": [{"type": "S0", "synapses": "80"}, {"type": "S3", "synapses": "C0"}]}}}
"""
RECORDS = RECORDS.replace(
    "TYPE", ", ".join(f'"{key}": {"false" if key in FLAGS else 1}' for key in PARAMETERS if key not in ("V", "TM"))
).replace('"gamma": 1,', '"gamma": 1, "TM": 0, "V": -5,')
