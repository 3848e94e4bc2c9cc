"""The table of precisions: sizes by hand, scores from reports before cards, what is missing is said."""

from __future__ import annotations

import json
import math

import pytest
from run_cases import NETWORK, PONG, small_chip, small_integers, small_student, small_teacher, write_run

from bench import integers
from bench.integers import energy_of, float_size, rows_of, scores_of, seen, speed, table, trinary_size
from deploy.gather import joules
from rl.files import write_json
from rl.loop import RandomPlayer

SCORE = {"mean": 1.0, "low": 0.5, "high": 1.5, "of_teacher": 0.25, "returns": [0.5, 1.5]}


@pytest.fixture
def no_models(tmp_path, monkeypatch):
    """Nothing ships."""
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path / "models",))
    monkeypatch.setattr(scores_of, "__defaults__", (tmp_path / "models",))
    monkeypatch.setattr(energy_of, "__defaults__", (tmp_path / "models",))
    return tmp_path / "models"


def test_a_teacher_is_counted_by_hand():
    one, two, three = NETWORK.channels
    weights = [64 * 4 * one, one * 16 * two, two * 9 * three, three * 49 * NETWORK.hidden, NETWORK.hidden * len(PONG)]
    places = [400, 81, 49, 1, 1]
    vectors = 3 * (one + two + three) + 3 * NETWORK.hidden + len(PONG)
    size, products = float_size(small_teacher())
    assert size == 4 * (sum(weights) + vectors)
    assert products == sum(w * p for w, p in zip(weights, places, strict=True)) == small_integers(8).multiply_adds


def test_a_trinary_student_is_counted_by_hand():
    spec = small_student()
    packed = sum(math.prod(layer.weights.shape) for layer in spec.layers)
    leaks = sum(4 * len(conv.leak) for conv in (spec.front, *spec.layers))
    products = [math.prod(conv.out_shape) * conv.fan_in for conv in (spec.front, *spec.layers)]
    front = spec.front.weights.size
    assert trinary_size(spec) == (
        math.ceil(packed / 4) + front + leaks + 2 * spec.vote.size,
        products[0],
        sum(products[1:]),
    )


def test_a_run_s_own_score_comes_before_a_shipped_one(no_models, tmp_path):
    rules = {"protocol": {"name": "nature"}}
    card = {"scores": {"teacher": SCORE | {"mean": 9.0}, "student": SCORE | {"mean": 2.0}}, **rules}
    write_json(no_models / "Pong" / "card.json", card)
    write_json(tmp_path / "root/Pong/score/nature/report.json", {"scores": {"teacher": SCORE}, **rules})
    found = scores_of("Pong", str(tmp_path / "root"), "nature")
    assert (found["teacher"]["mean"], found["student"]["mean"], found["spec"]["mean"]) == (1.0, 2.0, 2.0)
    assert found["teacher"]["from"].endswith("report.json") and found["student"]["from"].endswith("card.json")
    assert scores_of("Pong", str(tmp_path / "root"), "machado") == {}


def test_every_player_whose_model_is_there_has_a_row(no_models, tmp_path, capsys):
    folder = write_run(tmp_path / "root")
    (folder / "int4/int4.npz").unlink()
    write_json(folder / "score/nature/report.json", {"scores": {"int8": SCORE}, "protocol": {"name": "nature"}})
    power = {"static_w": 0.04, "active_a_w": 0.02}
    chip = {"energy": {"whole": power}, "graph": small_chip().digest}
    write_json(no_models / "Pong/card.json", {"protocol": {"name": "v5"}, "chip": chip})
    rows = rows_of("Pong", str(tmp_path / "root"), "nature", seen("Pong", 22))
    assert [row["player"] for row in rows] == ["teacher", "int8", "spec", "chip"]
    assert "Pong: no int4 (int4: neither" in capsys.readouterr().out
    lines = table(rows).splitlines()
    assert lines[3].startswith(
        f"| Pong | 8-bit | 1.00 (0.50 .. 1.50) | 0.250 | 2 | {small_integers(8).parameter_bytes:,} |"
    )
    assert "| not scored | - | - |" in lines[2] and "| unknown |" in lines[2]
    assert rows[3]["joules"] > 0 and "M adds" in lines[5]


def test_energy_is_of_the_very_chip_or_not_known(no_models, tmp_path):
    write_run(tmp_path / "root")
    asked, card = ("Pong", str(tmp_path / "root")), no_models / "Pong/card.json"
    assert energy_of(*asked) is None, "nothing ships"
    write_json(card, {"scores": {}})
    assert energy_of(*asked) is None, "a teacher alone ships"
    energy = {"whole": {"static_w": 0.04, "active_a_w": 0.02}}
    write_json(card, {"chip": {"energy": energy, "graph": "0" * 64}})
    assert energy_of(*asked) is None, "another chip ships"
    write_json(card, {"chip": {"energy": energy, "graph": small_chip().digest}})
    assert energy_of(*asked) == joules(energy)


def test_speed_counts_decisions_behind_the_first_few():
    asked = []

    class Counted(RandomPlayer):
        def act(self, obs):
            asked.append(sum(range(2000)))
            return super().act(obs)

    assert speed(Counted(6, 1), seen("Pong", 30)) > 0 and len(asked) == 30


def test_the_command_leaves_its_report(no_models, tmp_path, capsys):
    write_run(tmp_path / "root")
    integers.main(["--root", str(tmp_path / "root"), "--decisions", "2", "--folder", str(tmp_path)])
    report = json.loads((tmp_path / "integers.json").read_text())
    assert {row["player"] for row in report["rows"]} == set(integers.PLAYERS) and report["decisions"] == 2
    assert "| Pong | float teacher | not scored |" in capsys.readouterr().out
