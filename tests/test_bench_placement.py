"""The benchmark of placement runs, measures what it says, and the published networks are placed well."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import DATA, needs_networks

from bench import placement
from bench.placement import NETWORKS, Network, layered_graph, layers_of, named, network_row, random_network
from deploy.chip import CHIPS
from deploy.flows import flows
from rl.settings import SettingsError

SMALL = Network("small", layers_of("S-4(1) S-24(2) N-40(1) P-20(4)"), (1, 10, 8), 4, "ns1e")


def test_layers_read_as_the_papers_print_them() -> None:
    assert layers_of("S-16(1) P4-252(2) N-2040(8)") == ((16, 3, 1, 1, 1), (252, 4, 2, 1, 2), (2040, 1, 1, 0, 8))


@pytest.mark.ground_truth
@needs_networks
def test_the_networks_are_those_published() -> None:
    published = json.loads((DATA / "eedn_networks.json").read_text())["networks"]
    fields = ("features", "kernel", "stride", "pad", "groups")
    for network, layers in zip(published, (NETWORKS["cifar"].layers, NETWORKS["gesture"].layers), strict=True):
        assert list(layers[1:]) == [tuple(layer[field] for field in fields) for layer in network["layers"]]


def test_a_row_holds_every_order_and_what_was_saved() -> None:
    row, again, other = (network_row(SMALL, 3, seed) for seed in (1, 1, 2))
    assert row["measured"] and row["cores"] > 10
    assert row["mean_hops as placed"] < row["mean_hops row-major"]
    expected = 1 - row["mean_hops as placed"] / row["mean_hops row-major"]
    assert abs(row["saved_hops"] - expected) < 1e-9 and row["saved_cost"] == row["saved_hops"], "one chip has no edges"
    assert {**again, "wall_s": 0} == {**row, "wall_s": 0} != {**other, "wall_s": 0}
    assert placement.table([row]).row_count == 1


def test_random_networks_follow_their_seed() -> None:
    digests = [random_network(SMALL, seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_synthetic_layers_fill_the_board_and_send_to_the_next_layer() -> None:
    graph = layered_graph(50, layer=16, seed=1)
    assert graph.shape == (50, 256, 256)
    sent = flows(graph)
    assert (sent.other // 16 == sent.source // 16 + 1).all()
    assert sent.weight.sum() == (graph.target_core >= 0).sum() > 33 * 200


def test_an_unknown_network_is_refused() -> None:
    assert named("none") == [] and named("cifar,four") == ["cifar", "four"]
    with pytest.raises(SettingsError, match=r"^--networks: found 'five', allowed cifar, gesture, four, or none$"):
        named("cifar,five")


def test_the_benchmark_prints_a_table_and_writes_its_report(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(placement.NETWORKS, "small", SMALL)
    arguments = ["--networks", "small", "--pictures", "2", "--board-cores", "40", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    placement.main()
    report = json.loads((tmp_path / "placement.json").read_text())
    assert [(row["what"], row["measured"]) for row in report["rows"]] == [("small", True), ("synthetic layers", False)]
    assert report["rows"][1]["chip"] == "ns16e" and CHIPS["ns16e"].cores == 65_536
    assert "cost saved" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar", "gesture"])
def test_published_networks_cost_far_less_than_in_row_major_order(name: str) -> None:
    row = network_row(NETWORKS[name], 3, seed=0)
    assert row["saved_cost"] >= 0.3
    assert row["mean_hops as placed"] < min(row["mean_hops random"], row["mean_hops curve"])
    assert row["cores"] <= 4096
