"""Looking at a dataset: every damage is found, every number is the one worked out by hand, nothing is written."""

from __future__ import annotations

import io
import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console
from rollout_cases import FACTS, SMALL, episode, record

from rl import manifest as manifests
from rl import rollouts
from rl.bars import Panel, histogram
from rl.files import FormatError, digest, plain
from rl.inspection import info, sharpness, stack_faults, verify
from rl.manifest import Entry, Returns, read_manifest, write_manifest
from rl.recording import RolloutWriter, join_episodes
from rl.rollouts import Rollouts, main
from rl.shards import pack, part_bytes


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_a_sound_dataset_passes_and_stays_as_it_was(tmp_path, capsys):
    record(tmp_path, [7, 2, 11])
    before = contents(tmp_path)
    assert main(["verify", str(tmp_path)]) == 0 and main(["info", str(tmp_path)]) == 0
    assert "Pong: sound: 20 decisions, 3 episodes, 2 shards, status complete" in capsys.readouterr().out
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["manifest.json", "shard-00000.spk", "shard-00001.spk"])
@pytest.mark.parametrize("place", [0.0, 0.13, 0.5, 0.77, 1.0])
def test_a_flipped_bit_is_found_in_every_file(tmp_path, name, place, capsys):
    record(tmp_path, [7, 2, 11])
    size = (tmp_path / name).stat().st_size
    flip(tmp_path / name, min(int(place * size), size - 1))
    assert main(["verify", str(tmp_path)]) == 1
    assert f"{name}: " in capsys.readouterr().err
    with pytest.raises(FormatError, match=rf"{name}: .*record or fetch it again|make or fetch it again"):
        Rollouts.open(tmp_path)


def test_flipped_bits_all_over_every_file_are_found(tmp_path):
    record(tmp_path, [2, 1])
    names = ["manifest.json", *(entry.name for entry in read_manifest(tmp_path).shards)]
    assert sorted(contents(tmp_path)) == sorted(names)
    for name in names:
        whole = (tmp_path / name).read_bytes()
        # Steps without a factor of 8, so that every bit of a byte has its turn; closer where a flip may mean the same.
        for bit in range(0, 8 * len(whole), 11 if name == "manifest.json" else 101):
            flip(tmp_path / name, bit // 8, bit % 8)
            assert verify(tmp_path, quiet()), f"{name}: bit {bit}"
            (tmp_path / name).write_bytes(whole)
    assert verify(tmp_path, quiet()) == []


def test_a_manifest_that_means_the_same_but_is_spelled_otherwise_is_found(tmp_path):
    record(tmp_path, [9])
    facts = replace(FACTS, epsilon=1e-05)
    write_manifest(tmp_path, replace(read_manifest(tmp_path), facts=facts))
    path = tmp_path / "manifest.json"
    assert verify(tmp_path, quiet()) == []
    path.write_text(path.read_text().replace("1e-05", "1E-05"))
    assert read_manifest(tmp_path).facts.epsilon == 1e-05
    (found,) = verify(tmp_path, quiet())
    assert found == f"{path}: field text is not as it was written: changed or damaged; record or fetch it again"


def test_all_damaged_shards_are_named_at_once(tmp_path):
    record(tmp_path, [9, 9, 9])
    flip(tmp_path / "shard-00000.spk", -1)
    (tmp_path / "shard-00001.spk").unlink()
    (tmp_path / "shard-00002.spk").write_bytes(b"SPIKEROW")
    found = verify(tmp_path, quiet())
    messages = [
        "00000.spk: field sha256 differs",
        "00001.spk: not found, the manifest lists it",
        "00002.spk: field bytes is 8",
    ]
    assert len(found) == 3 and all(part in line for part, line in zip(messages, found, strict=True))


def test_shards_that_change_places_are_found(tmp_path):
    record(tmp_path, [9, 9])
    a, b = tmp_path / "shard-00000.spk", tmp_path / "shard-00001.spk"
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)
    assert len(verify(tmp_path, quiet())) == 2


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path, capsys):
    for command in ("info", "verify"):
        assert main([command, str(tmp_path / "none")]) == 1
        assert "manifest.json: not found, so no dataset; make rollouts records one" in capsys.readouterr().err


def test_an_empty_recording_is_not_sound(tmp_path, capsys):
    with RolloutWriter(tmp_path, FACTS):
        pass
    for command in ("info", "verify"):
        assert main([command, str(tmp_path)]) == 1
        assert "field shards is empty; record into it first" in capsys.readouterr().err


def forge(folder: Path, **changes: object) -> None:
    """Change the manifest and give it the digest of the changed contents."""
    path = folder / "manifest.json"
    body = {**json.loads(path.read_text()), **changes}
    del body["digest"]
    path.write_text(json.dumps({**body, "digest": digest(plain(body))}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "photographs"}, r"field kind: found 'photographs', must be 'spikecade-rollouts'"),
        ({"version": [2, 0]}, r"field version: found \[2, 0\], this program reads 1\.x"),
        ({"version": []}, r"manifest.json: field "),
        ({"status": "lost"}, r"field status: found 'lost', allowed recording, complete"),
        ({"shards": []}, r"field counts\.\w+: found \d+, the shards have 0"),
        ({"shards": [{"name": "../x"}]}, r"manifest.json: field .*missing .* required"),
        ({"codec": {"chunk_rows": 5, "level": 99}}, r"field Codec.level: found 99, allowed 1\.\.22"),
        ({"facts": {}}, r"field 'actions' missing"),
        ({"facts": None}, r"manifest.json: field "),
    ],
)
def test_a_forged_manifest_is_refused(tmp_path, changes, message):
    record(tmp_path, [7, 2])
    forge(tmp_path, **changes)
    with pytest.raises(FormatError, match=message):
        read_manifest(tmp_path)


def test_a_field_that_is_missing_is_named(tmp_path):
    record(tmp_path, [3])
    body = json.loads((tmp_path / "manifest.json").read_text())
    del body["facts"]
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(FormatError, match=r"field digest: found \w+, the contents have \w+: the file was changed"):
        read_manifest(tmp_path)


GOOD = Entry("shard-00000.spk", 5, 4, 1, 99, "ab")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../../etc/passwd"}, r"^shards.name: found '../../etc/passwd', must be like shard-00000.spk$"),
        ({"rows": True}, r"^shards.rows: found True for shard-00000.spk, must be a positive number$"),
        ({"bytes": 0}, r"^shards.bytes: found 0 for"),
        ({"decisions": 5}, r"^shards.rows: found 5 for shard-00000.spk, must be decisions \+ episodes$"),
    ],
)
def test_an_entry_names_the_wrong_field(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


def test_shards_are_listed_in_order(tmp_path):
    record(tmp_path, [3])
    with pytest.raises(ValueError, match=r"^shards.name: found shard-00000.spk at place 1, must be shard-00001.spk$"):
        replace(read_manifest(tmp_path), shards=(GOOD, GOOD))


def rewrite(folder: Path, entry: Entry, data: bytes) -> None:
    """Replace the only shard, its digest in the manifest included."""
    (folder / entry.name).write_bytes(data)
    write_manifest(
        folder, replace(read_manifest(folder), shards=(replace(entry, bytes=len(data), sha256=digest(data)),))
    )


def test_counts_of_the_manifest_are_checked_against_the_shard(tmp_path):
    record(tmp_path, [7])
    entry = read_manifest(tmp_path).shards[0]
    rewrite(tmp_path, entry, pack(join_episodes([episode(8, 1)]), SMALL))
    assert "field rows, decisions, episodes are (9, 8, 1), the manifest says (8, 7, 1)" in verify(tmp_path, quiet())[0]


def test_the_action_set_is_checked_against_the_shard(tmp_path):
    record(tmp_path, [2])
    entry = read_manifest(tmp_path).shards[0]
    other = episode(2, 1, q=np.eye(2, 5, dtype=np.float32), action=np.array([0, 1], np.uint8))
    rewrite(tmp_path, entry, pack(join_episodes([other]), SMALL))
    assert "field actions is 5, the manifest names 3" in verify(tmp_path, quiet())[0]


def test_return_statistics_are_recomputed(tmp_path):
    record(tmp_path, [7, 2])
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, replace(manifest, returns=replace(manifest.returns, mean=1e6)))
    assert "field returns is Returns(episodes=2, mean=1000000.0" in verify(tmp_path, quiet())[0]
    write_manifest(tmp_path, replace(manifest, returns=None))
    assert "field returns is None, the episodes have Returns(" in verify(tmp_path, quiet())[0]


def test_a_first_stack_that_is_not_padded_is_found(monkeypatch):
    shard = join_episodes([episode(5, 1), episode(6, 2)])
    assert list(stack_faults(shard, "here")) == []
    monkeypatch.setattr("rl.inspection.ages", lambda starts, rows: np.full(rows, 3, np.uint8))
    expected = "here: field frames: the first stack of episode 1 is not zeros and its first picture"
    assert expected in list(stack_faults(shard, "here"))


def test_sharpness_of_two_equal_actions_is_one_bit():
    found = sharpness(np.array([[7.0, 7.0]], np.float32), 0.01)
    assert found.entropy == pytest.approx(math.log(2)) and found.p_argmax == 0.5


def test_sharpness_equals_a_softmax_worked_by_hand():
    q, temperature = [0.5, 0.25, -1.0], 0.5
    total = sum(math.exp(x / temperature) for x in q)
    p = [math.exp(x / temperature) / total for x in q]
    found = sharpness(np.array([q, [0.0, 9.0, 0.0]], np.float32), temperature)
    assert found.entropy == pytest.approx(-sum(x * math.log(x) for x in p) / 2, abs=1e-5)
    assert found.p_argmax == pytest.approx((p[0] + 1) / 2, abs=1e-5)


def test_info_shows_what_was_recorded(tmp_path):
    q = np.tile(np.array([[0.5, 0.25, -1.0]], np.float32), (4, 1))
    one = episode(4, 1, q=q, action=np.array([0, 0, 2, 0], np.uint8), greedy=np.array([1, 1, 0, 1], bool))
    with RolloutWriter(tmp_path, FACTS, codec=SMALL) as writer:
        writer.add_episode(replace(one, reward=np.array([0, 2, 0, -1], np.float32)))
    console = quiet()
    assert info(tmp_path, console) == []
    text = " ".join(console.file.getvalue().split())
    for part in (
        "NOOP 3, FIRE 0, LEFT 1",
        "greedy_share │ 0.75",
        "q_min │ -1",
        "q_max │ 0.5",
        "mean 1, std 0, min 1, max 1",
    ):
        assert part in text
    assert (
        "gap_to_second_median │ 0.25" in text
        and "labels at temperature 0.001 │ entropy 0.0000 nats, P(argmax) 1.0000" in text
    )
    assert "over 1, capped 0, cut 0" in text and "rows │ 5" in text and "decisions │ 4" in text


def test_statistics_agree_but_for_rounding():
    one = Returns(3, 0.1, 0.2, -1.0, 7.0)
    assert manifests.returns_agree(one, replace(one, mean=0.1 + 1e-17)) and manifests.returns_agree(None, None)
    assert not manifests.returns_agree(one, None) and not manifests.returns_agree(one, replace(one, max=7.5))


def test_bytes_by_part_add_up_to_the_file(tmp_path):
    record(tmp_path, [7, 2, 11])
    parts = [part_bytes((tmp_path / entry.name).read_bytes()) for entry in read_manifest(tmp_path).shards]
    sizes = [entry.bytes for entry in read_manifest(tmp_path).shards]
    assert [sum(part.values()) for part in parts] == sizes
    assert set(parts[0]) == {"frames", "action", "reward", "flags", "lives", "q", "header"}


def test_info_says_who_played_and_leaves_out_labels_that_are_not_there(tmp_path):
    facts = replace(FACTS, player={"name": "random"}, teacher={"digest": None})
    q = np.zeros((4, 3), np.float32)
    with RolloutWriter(tmp_path, facts, codec=SMALL) as writer:
        writer.add_episode(episode(4, 1, q=q, greedy=np.zeros(4, bool)))
    console = quiet()
    info(tmp_path, console, tmp_path / "plot.svg")
    text = " ".join(console.file.getvalue().split())
    assert "player │ random" in text and "labelled │ no" in text and "q_min" not in text and "entropy" not in text
    drawn = (tmp_path / "plot.svg").read_text()
    assert "Pong, played by random" in drawn and "max Q" not in drawn


def bars(drawn, title):
    """(name, number) of each bar of a panel, read from the drawing."""
    texts = [node.text for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    titles = [i for i, text in enumerate(texts) if text[0].islower() or text.startswith("P(")]
    at = next(i for i in titles if texts[i].startswith(title))
    end = next((i for i in titles if i > at), len(texts))
    return list(zip(texts[at + 1 : end : 2], texts[at + 2 : end : 2], strict=True))


def test_the_plot_shows_the_numbers_of_the_table(tmp_path):
    record(tmp_path / "set", [7, 2, 11, 5])
    plot, data = tmp_path / "plot.svg", Rollouts.open(tmp_path / "set")
    assert main(["info", str(tmp_path / "set"), "--plot", str(plot)]) == 0
    drawn, q = plot.read_text(), data.q[data.decisions]
    counts = np.bincount(data.action[data.decisions], minlength=3)
    assert bars(drawn, "actions") == [(name, str(n)) for name, n in zip(FACTS.actions, counts, strict=True)]
    expected = [(f"T {t:g}", f"{sharpness(q, t).entropy:.3g}") for t in (1.0, 0.1, 0.01, 0.001)]
    assert bars(drawn, "entropy") == expected
    assert sum(int(n) for _, n in bars(drawn, "best value")) == 25
    assert sum(int(n) for _, n in bars(drawn, "returns")) == (data.episodes.end != 0).sum()
    again = tmp_path / "again.svg"
    assert main(["info", str(tmp_path / "set"), "--plot", str(again)]) == 0 and again.read_text() == drawn


def test_a_plot_that_is_no_svg_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path), "--plot", "a.png"])
    assert "found 'a.png', must end in .svg" in capsys.readouterr().err


def test_a_check_that_is_interrupted_ends_by_its_status_alone(tmp_path, monkeypatch):
    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("rl.inspection.verify", interrupted)
    monkeypatch.setattr("sys.argv", ["rollouts", "verify", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^130$"):
        runpy.run_path(rollouts.__file__, run_name="__main__")


def test_a_histogram_counts_by_hand():
    found = histogram("h", "u", np.array([0.0, 1.0, 14.0, 13.5]))
    assert [n for _, n in found.bars] == [1, 1, *[0] * 11, 2] and found.bars[0][0] == "0 .. 1"
    assert histogram("h", "u", np.array([2.0, 2.0, 2.0])).bars == (("2", 3.0),)


@pytest.mark.parametrize("bad", [(), (("a", -1.0),), (("a", math.nan),)])
def test_a_panel_needs_bars(bad):
    with pytest.raises(ValueError, match=r"^panel p: found .*, needs at least one bar, none below 0$"):
        Panel("p", "u", bad)
