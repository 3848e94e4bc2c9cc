"""What ships is what was scored, and its card says nothing that no report says."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from run_cases import write_run

from deploy import publish
from deploy.build import BuildRun, ChipSettings
from deploy.build import command as build
from deploy.cards import END, START, results, with_results
from deploy.compiled import load_compiled
from deploy.integer_spec import load_integers
from deploy.publish import PublishRun, command, composed, with_begun
from deploy.replay import load_replay
from deploy.score import model_digests
from deploy.spec import load_spec, save_spec
from deploy.student_card import kept_of
from rl.checkpoint import load_policy
from rl.files import read_json, write_json
from rl.scores import Score, protocol
from rl.settings import SettingsError
from rl.stages import CARD, CHIP, INT4, INT8, SHIPPED, STUDENT, TEACHER

RETURNS = {"teacher": (19.0, 21.0), "student": (17.0, 20.0), "chip": (17.0, 20.0)}


@pytest.fixture
def run_folder(tmp_path, monkeypatch) -> Path:
    """A whole run of tiny models with the reports that the stages write, and an empty models/ to publish to."""
    root = tmp_path / "root"
    folder = write_run(root)
    policy, (spec, _) = load_policy(folder / TEACHER), load_spec(folder / STUDENT)
    save_spec(spec, folder / STUDENT, {"teachers": {"Pong": policy.digest}})
    assert build(BuildRun(("Pong",), str(root), ChipSettings("ns1e", 0, 1, (), 33, (), splitters=True))) == 0
    teacher = {"policy": policy.digest, "policy_frames": 4800, "frames": 5000, "wall_s": 120.0, "settings": {}}
    write_json(folder / "teacher/report.json", teacher)
    write_json(folder / "rollouts/report.json", {"decisions": 1234, "bytes_per_decision": 44.6})
    student = {"spec": spec.digest, "updates": 77, "wall_s": 60.0, "settings": {}, "origin": {}}
    write_json(folder / "student/report.json", student)
    rules = protocol("nature", 2, 5000)
    scores = {name: Score("Pong", name, rules, values) for name, values in RETURNS.items()}
    told = {name: score.to_json() | {"of_teacher": 0.75} for name, score in scores.items()}
    models = model_digests("Pong", str(root), ("teacher", "student", "chip"))
    facts = {"protocol": asdict(rules), "scores": told, "models": models, "versions": {"cpus": 2}}
    write_json(folder / "score/nature/report.json", facts)
    ships = tmp_path / "ships" / "models"
    (ships.parent / "README.md").parent.mkdir()
    (ships.parent / "README.md").write_text(f"front\n{START}\nold\n{END}\nback\n")
    monkeypatch.setattr(publish, "MODELS", ships)
    return folder


def publish_run(folder: Path) -> PublishRun:
    return PublishRun("Pong", str(folder.parent))


def test_what_ships_is_the_run_to_the_byte_with_a_card_and_a_row_in_the_readme(run_folder, tmp_path):
    assert command(publish_run(run_folder)) == 0
    ships = tmp_path / "ships/models/Pong"
    for stage in (TEACHER, STUDENT, CHIP):
        assert (ships / SHIPPED[stage]).read_bytes() == (run_folder / stage).read_bytes()
    card = read_json(ships / "card.json")
    assert card["scores"]["chip"]["returns"] == [17.0, 20.0]
    assert card["chip"]["graph"] == load_compiled(run_folder / CHIP)[0].digest
    replay = load_replay(ships / "replay.npz")
    assert (replay.played.game, replay.played.player, replay.played.seed) == ("Pong", "chip", 5000)
    energy = card["chip"]["energy"]
    assert energy["whole"]["cores"] == card["chip"]["usage"]["total"]["cores"][0] and energy["pass_a_j"] > 0
    text = (ships / "card.md").read_text()
    assert "mJ a decision" in text and "make replay GAME=Pong" in text
    assert "| teacher | 20.00 |" in text
    assert "2 episodes each on seeds 5000 and up, epsilon 0.01" in text
    readme = (tmp_path / "ships/README.md").read_text()
    assert readme.startswith("front\n") and readme.endswith("back\n") and "old" not in readme
    assert "| [Pong](models/Pong/card.md) | 20.00 (" in readme


def test_reports_of_other_models_are_all_named_and_nothing_is_written(run_folder, tmp_path):
    teacher = read_json(run_folder / "teacher/report.json")
    write_json(run_folder / "teacher/report.json", teacher | {"policy": "0" * 64})
    score = read_json(run_folder / "score/nature/report.json")
    write_json(run_folder / "score/nature/report.json", score | {"models": {}})
    wanted = r"(?s)reports of other models; run the stages again\nteacher/report.json: 0000.*teacher/policy.*chip/chip"
    with pytest.raises(SettingsError, match=wanted):
        command(publish_run(run_folder))
    assert not (tmp_path / "ships/models").exists()


def forget_student(folder: Path) -> None:
    """As a run is before its student is done: files may be there, its report is not."""
    (folder / "student/report.json").unlink()
    (folder / "rollouts/report.json").unlink()
    (folder / "chip/report.json").unlink()


def test_a_teacher_ships_alone_before_its_student_is_done(run_folder, tmp_path):
    forget_student(run_folder)
    assert command(publish_run(run_folder)) == 0
    ships = tmp_path / "ships/models/Pong"
    assert sorted(path.name for path in ships.iterdir()) == ["card.json", "card.md", SHIPPED[TEACHER]]
    card, text = read_json(ships / "card.json"), (ships / "card.md").read_text()
    assert list(card["scores"]) == ["teacher"] and "chip" not in card
    assert card["commands"][1:] == ["make score GAME=Pong ARGS=score.players=[teacher]"]
    assert "| teacher | 20.00 |" in text and "chip" not in text
    row = (tmp_path / "ships/README.md").read_text().splitlines()[4]
    assert row.startswith("| [Pong](models/Pong/card.md) | 20.00 (") and row.endswith("| - | - | - | - | - | - | 2 |")


def test_a_teacher_alone_takes_no_place_of_one_with_a_chip(run_folder, tmp_path):
    assert command(publish_run(run_folder)) == 0
    before = (tmp_path / "ships/models/Pong/card.json").read_bytes()
    forget_student(run_folder)
    with pytest.raises(SettingsError, match=r"models/Pong: found a chip of another teacher, allowed .* distil"):
        command(publish_run(run_folder))
    assert (tmp_path / "ships/models/Pong/card.json").read_bytes() == before


def test_every_card_says_its_commands_anew(run_folder, tmp_path):
    command(publish_run(run_folder))
    other = tmp_path / "ships/models/Alien"
    facts = read_json(tmp_path / "ships/models/Pong/card.json")
    settings = {"teacher": {"train_frames": 7}}
    write_json(other / "card.json", facts | {"game": "Alien", "teacher": facts["teacher"] | {"settings": settings}})
    command(publish_run(run_folder))
    found = read_json(other / "card.json")["commands"]
    assert "teacher.train_frames=7" in found[0]
    assert f"Made by: `{found[0]}`, `make rollouts GAME=Alien ARGS=" in (other / "card.md").read_text()


def test_a_card_tells_what_was_made_and_not_in_which_folders(run_folder, tmp_path):
    path = run_folder / "student/report.json"
    own = {"root": "/home/me/runs", "alone": "/home/me/alone", "distill": {"seed": 4}}
    write_json(
        path, read_json(path) | {"settings": own, "origin": {"start": [{"spec": "e", "updates": 1, "settings": own}]}}
    )
    command(publish_run(run_folder))
    student = read_json(tmp_path / "ships/models/Pong/card.json")["student"]
    assert student["settings"] == student["origin"]["start"][0]["settings"] == {"distill": {"seed": 4}}


def test_a_student_that_learned_on_by_play_says_so(run_folder, tmp_path):
    path = run_folder / "student/report.json"
    own = composed("finetune", "game=Pong", "name=Pong", "finetune.updates=900", "finetune.threads=1")
    write_json(path, read_json(path) | {"finetuned": {"begun": "a", "updates": 900, "wall_s": 120.0, "settings": own}})
    command(publish_run(run_folder))
    card, text = (tmp_path / "ships/models/Pong" / name for name in ("card.json", "card.md"))
    assert read_json(card)["commands"][3] == 'make finetune GAME=Pong ARGS="finetune.updates=900"'
    assert "77 updates, 1 minutes, then 900 by play, 2 minutes; digest" in text.read_text()


def add_integers(folder: Path, *bits: int) -> None:
    """Integers that were fine-tuned and scored: 15 and 20 points."""
    path = folder / "score/nature/report.json"
    facts = read_json(path)
    for own in bits:
        stage, player = {8: (INT8, "int8"), 4: (INT4, "int4")}[own]
        spec, origin = load_integers(folder / stage)
        exam = {"integers/agreement": 0.875}
        told = {"bits": own, "spec": spec.digest, "bytes": 1_500_000, "multiply_adds": 2_340_000, "updates": 99}
        made = {
            "wall_s": 300.0,
            "settings": {"integers": {"bits": own, "epochs": 3, "batch": 64 if own == 8 else 128}},
            "origin": origin | {"exam": exam},
        }
        write_json(folder / player / "report.json", told | made)
        score = Score("Pong", player, protocol("nature", 2, 5000), (15.0, 20.0))
        facts["scores"][player] = score.to_json() | {"of_teacher": None}
        facts["models"] |= model_digests("Pong", str(folder.parent), (player,))
    write_json(path, facts)


def leave_integers(folder: Path, *bits: int) -> None:
    """As a run is that has integers alone, of a teacher that ships."""
    for name in ("teacher", "student", "chip", "rollouts"):
        shutil.rmtree(folder / name)
    path = folder / "score/nature/report.json"
    write_json(path, read_json(path) | {"scores": {}, "models": {}})
    add_integers(folder, *bits)


def leave_student(folder: Path, *begun_as: str) -> None:
    """As a run is that has a new student and its chip alone, of a teacher that ships."""
    shutil.rmtree(folder / "teacher")
    path = folder / "student/report.json"
    begun = {"start": [{"spec": spec, "updates": 24_000} for spec in begun_as or ("e" * 64, "f" * 64)]}
    write_json(path, read_json(path) | {"updates": 500, "origin": begun})
    path = folder / "score/nature/report.json"
    facts = read_json(path)
    for player in ("student", "chip"):
        score = Score("Pong", player, protocol("nature", 2, 5000), (18.0, 20.0))
        facts["scores"][player] = score.to_json() | {"of_teacher": None}
    write_json(path, {**facts, "scores": {name: facts["scores"][name] for name in ("student", "chip")}})


def test_integers_ship_with_their_scores_sizes_and_commands(run_folder, tmp_path):
    add_integers(run_folder, 8, 4)
    assert command(publish_run(run_folder)) == 0
    ships = tmp_path / "ships/models/Pong"
    card, text = read_json(ships / "card.json"), (ships / "card.md").read_text()
    assert {name: (own["bits"], own["updates"]) for name, own in card["integers"].items()} == {
        "int8": (8, 99),
        "int4": (4, 99),
    }
    assert card["commands"][-3:] == [
        'make integers GAME=Pong BITS=8 ARGS="integers.epochs=3"',
        'make integers GAME=Pong BITS=4 ARGS="integers.epochs=3"',
        "make score GAME=Pong ARGS=score.players=[int8,int4]",
    ]
    assert "| int4 | 17.50 |" in text
    assert "- 4 bits: 1.50 MB, 2.3 M multiply-adds a decision, agreement with the teacher 0.875; 99 updates" in text
    assert "99 updates of 128 (epochs: 3), 5 minutes; digest" in text
    assert "| game | teacher | student | 8-bit | 4-bit | chip |" in (tmp_path / "ships/README.md").read_text()
    assert (ships / "int4.npz").read_bytes() == (run_folder / INT4).read_bytes()


def change_card(ships: Path, **changes) -> None:
    """The card that ships, otherwise."""
    write_json(ships / CARD, read_json(ships / CARD) | changes)


@pytest.fixture
def with_integers(run_folder, tmp_path) -> Path:
    """What ships with 8 bits, of a run that has never heard of them."""
    score = (run_folder / "score/nature/report.json").read_bytes()
    add_integers(run_folder, 8)
    command(publish_run(run_folder))
    (run_folder / "score/nature/report.json").write_bytes(score)
    return tmp_path / "ships/models/Pong"


def test_integers_of_a_teacher_that_ships_no_more_go_with_it(run_folder, with_integers, capsys):
    ships = with_integers
    change_card(ships, teacher=read_json(ships / CARD)["teacher"] | {"policy": "0" * 64})
    command(publish_run(run_folder))
    card = read_json(ships / CARD)
    assert "integers" not in card and "int8" not in card["scores"] and not (ships / "int8.npz").exists()
    assert f"{ships / 'int8.npz'}: removed, its teacher ships no more\n" in capsys.readouterr().out


def test_integers_of_a_teacher_that_is_published_again_stay(run_folder, with_integers, capsys):
    ships = with_integers
    before, file = read_json(ships / CARD), (ships / "int8.npz").read_bytes()
    command(publish_run(run_folder))
    card, share = read_json(ships / CARD), (17.5 + 20.7) / (20 + 20.7)
    assert card["integers"] == before["integers"] and card["commands"] == before["commands"]
    assert card["scores"]["int8"] == before["scores"]["int8"] | {"of_teacher": pytest.approx(share)}
    assert (ships / "int8.npz").read_bytes() == file and "removed" not in capsys.readouterr().out


def test_integers_that_were_scored_by_other_rules_are_scored_again_before_their_teacher_is_published(
    run_folder, with_integers
):
    ships = with_integers
    change_card(ships, protocol={"name": "v5"})
    before = (ships / CARD).read_bytes()
    with pytest.raises(SettingsError, match=r"int8.npz: scored by \{'name': 'v5'\}, .*ARGS=score.players=\[int8\]$"):
        command(publish_run(run_folder))
    assert (ships / CARD).read_bytes() == before
    add_integers(run_folder, 8)
    (run_folder / INT8).unlink()  # what ships is what was scored
    command(publish_run(run_folder))
    assert read_json(ships / CARD)["scores"]["int8"]["mean"] == 17.5 and (ships / "int8.npz").exists()


@pytest.mark.parametrize("leave", [lambda folder: None, leave_student], ids=["whole", "student"])
def test_what_is_stopped_before_all_is_at_hand_replaces_nothing(run_folder, tmp_path, monkeypatch, leave):
    command(publish_run(run_folder))
    leave(run_folder)
    add_integers(run_folder, 8)
    ships = tmp_path / "ships/models/Pong"
    files = {path.name: path.read_bytes() for path in ships.iterdir()}

    def stopped(*own):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "energy_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        command(publish_run(run_folder))
    assert {path.name: path.read_bytes() for path in ships.iterdir()} == files


def test_integers_alone_join_what_ships(run_folder, tmp_path):
    add_integers(run_folder, 8)
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong"
    before, files = read_json(ships / "card.json"), {path.name: path.read_bytes() for path in ships.iterdir()}
    leave_integers(run_folder, 4)
    (run_folder / INT8).write_bytes(b"others, not scored")
    assert command(publish_run(run_folder)) == 0
    card = read_json(ships / "card.json")
    assert set(card["scores"]) == {"teacher", "student", "chip", "int8", "int4"}
    assert card["scores"]["int4"]["of_teacher"] == pytest.approx((17.5 + 20.7) / (20 + 20.7))
    assert set(card["integers"]) == {"int8", "int4"}
    assert {key: card[key] for key in ("teacher", "student", "chip")} == {
        key: before[key] for key in ("teacher", "student", "chip")
    }
    same = set(files) - {"card.json", "card.md"}
    assert all((ships / name).read_bytes() == files[name] for name in same)
    assert {path.name for path in ships.iterdir()} == {*files, "int4.npz"}


def test_a_new_student_alone_takes_the_place_of_that_of_the_teacher_that_ships(run_folder, tmp_path):
    add_integers(run_folder, 8)
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong"
    before, files = read_json(ships / CARD), {path.name: path.read_bytes() for path in ships.iterdir()}
    score = run_folder / "score/nature/report.json"
    write_json(
        score, {**(facts := read_json(score)), "models": {k: v for k, v in facts["models"].items() if k != INT8}}
    )
    leave_student(run_folder)
    assert command(publish_run(run_folder)) == 0
    card, text = read_json(ships / CARD), (ships / "card.md").read_text()
    assert card["scores"]["chip"]["mean"] == 19 and card["scores"]["int8"] == before["scores"]["int8"]
    assert card["scores"]["chip"]["of_teacher"] == pytest.approx((19 + 20.7) / (20 + 20.7))
    assert card["scores"]["teacher"] == before["scores"]["teacher"] and card["teacher"] == before["teacher"]
    assert card["integers"] == before["integers"] and card["chip"]["energy"] == before["chip"]["energy"]
    assert "- student: 500 updates after 24,000 as `eeeeeeeeeeeeeeee` and after 24,000 as `ffffffffffffffff`, 1" in text
    assert (ships / SHIPPED[TEACHER]).read_bytes() == files[SHIPPED[TEACHER]]
    assert {path.name for path in ships.iterdir()} == set(files)


def test_a_shipped_student_that_learned_on_by_play_keeps_its_dataset_and_all_that_it_was_made_of(run_folder, tmp_path):
    report, data = (run_folder / stage / "report.json" for stage in ("student", "rollouts"))
    write_json(data, read_json(data) | {"digest": "d"})
    begun = {"spec": "e" * 64, "updates": 24_000, "settings": {}}
    write_json(report, read_json(report) | {"origin": {"datasets": {"Pong": "d"}, "start": [begun]}})
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong" / CARD
    card = read_json(ships)
    write_json(ships, card | {"student": card["student"] | {"spec": "f" * 64, "begun": {**begun, "wall_s": 1.0}}})
    origin = {"datasets": {"Pong": "d"}, "start": [begun], "finetuned_from": "f" * 64}
    leave_student(run_folder)
    own = composed("finetune", "game=Pong", "name=Pong")
    played = {"begun": "f" * 64, "updates": 900, "wall_s": 120.0, "settings": own}
    write_json(report, read_json(report) | {"origin": origin, "finetuned": played})
    data.unlink()
    assert command(publish_run(run_folder)) == 0
    found = read_json(ships)
    assert found["rollouts"] == card["rollouts"] and found["student"]["begun"]["wall_s"] == 1.0
    assert "make finetune GAME=Pong" in found["commands"]


def test_a_card_keeps_how_the_student_was_made_that_this_one_began_as(run_folder, tmp_path):
    path = run_folder / "student/report.json"
    write_json(path, read_json(path) | {"settings": composed("distill", "games=[Pong]", "distill.shift=3")})
    command(publish_run(run_folder))
    leave_student(run_folder, read_json(path)["spec"])
    write_json(path, read_json(path) | {"settings": composed("distill", "games=[Pong]", "distill.updates=500")})
    command(publish_run(run_folder))
    card = read_json(tmp_path / "ships/models/Pong" / CARD)
    assert (card["student"]["updates"], card["student"]["begun"]["updates"]) == (500, 77)
    told = ['make distill GAME=Pong ARGS="distill.shift=3"', 'make distill GAME=Pong ARGS="distill.updates=500"']
    assert card["commands"][2:4] == told
    kept = {"spec": "a", "updates": 1, "settings": {}}
    starts = {"origin": {"start": [{"spec": "a", "updates": 1}]}}
    new = kept_of({"spec": "b", "updates": 2} | starts, {"student": kept})
    assert new["begun"] == kept
    assert kept_of({"spec": "b", "updates": 2} | starts, {"student": new}) == new, "published once more"
    first = {"policy": "a"}
    taught = with_begun({"policy": "b", "start": {"policy": "a"}}, {"teacher": first})
    assert taught["begun"] == first
    assert with_begun({"policy": "b", "start": {"policy": "a"}}, {"teacher": taught}) == taught


def test_a_card_tells_how_another_student_was_made_that_this_one_began_as_beside_what_ships(run_folder, tmp_path):
    path = run_folder / "student/report.json"
    write_json(path, read_json(path) | {"settings": composed("distill", "games=[Pong]", "distill.shift=3")})
    command(publish_run(run_folder))
    shipped = read_json(path)["spec"]
    leave_student(run_folder)
    changes = ("distill.seed=4", "distill.shift=3", "distill.updates=500")
    other, same, own = (composed("distill", "games=[Pong]", change) for change in changes)
    starts = [{"spec": shipped, "updates": 77, "settings": same}, {"spec": "f" * 64, "updates": 9, "settings": other}]
    write_json(path, read_json(path) | {"settings": own, "origin": {"start": starts}})
    told = [f'make distill GAME=Pong ARGS="{change}"' for change in ("distill.shift=3", "distill.seed=4", changes[2])]
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong" / CARD
    assert read_json(ships)["commands"][2:5] == told
    write_json(path, read_json(path) | {"origin": {"start": [{"spec": shipped, "updates": 586}]}})
    command(publish_run(run_folder))
    assert read_json(ships)["commands"][2:6] == [*told, told[-1]], "what a student before this one began as is kept"


def test_a_card_keeps_how_teacher_and_student_were_made_that_these_ones_began_as(run_folder, tmp_path):
    paths = {name: run_folder / name / "report.json" for name in ("teacher", "student")}
    taught = [composed("teacher", "game=Pong", "name=Pong", f"teacher.seed={seed}") for seed in (7, 8)]
    first, student = (read_json(path) for path in paths.values())
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong" / CARD
    write_json(ships, read_json(ships) | {"teacher": {**first, "policy": "older", "settings": taught[0]}})
    started = {"start": {"policy": "older", "frames": 9000}, "settings": taught[1]}
    write_json(paths["teacher"], first | started)
    write_json(paths["student"], student | {"origin": {"start": [{"spec": student["spec"], "updates": 77}]}})
    command(publish_run(run_folder))
    card = read_json(ships)
    assert (card["teacher"]["policy"], card["teacher"]["begun"]["policy"]) == (first["policy"], "older")
    assert card["student"]["begun"]["updates"] == 77
    told = ["make teacher GAME=Pong ARGS=" + f'"teacher.seed={seed}"' for seed in (7, 8)]
    assert card["commands"][:3] == [*told, 'make rollouts GAME=Pong ARGS="rollouts.decisions=1234"']
    assert "- teacher: 4,800 frames after 9,000 as `older`, 2 minutes" in (ships.parent / "card.md").read_text()
    write_json(paths["teacher"], first | {"start": {"policy": "another", "frames": 9000}})
    command(publish_run(run_folder))
    assert "begun" not in read_json(ships)["teacher"], "how that one was made is not known"


def test_a_student_and_integers_of_a_teacher_that_ships_join_together(run_folder, tmp_path):
    command(publish_run(run_folder))
    add_integers(run_folder, 4)
    leave_student(run_folder)
    add_integers(run_folder, 4)  # their score again, beside the student's
    assert command(publish_run(run_folder)) == 0
    card = read_json(tmp_path / "ships/models/Pong" / CARD)
    assert (card["scores"]["chip"]["mean"], card["scores"]["int4"]["mean"]) == (19, 17.5)
    assert "make integers" in card["commands"][-2]


def test_a_student_ships_where_the_integers_that_ship_were_scored_beside_it(run_folder, tmp_path):
    add_integers(run_folder, 8)
    command(publish_run(run_folder))
    ships = tmp_path / "ships/models/Pong"
    before = read_json(ships / CARD)
    shutil.rmtree(run_folder / "int8")
    leave_student(run_folder)
    assert INT8 in read_json(run_folder / "score/nature/report.json")["models"]
    assert command(publish_run(run_folder)) == 0
    card = read_json(ships / CARD)
    assert card["scores"]["chip"]["mean"] == 19 and card["integers"] == before["integers"]


def test_nothing_is_replaced_where_a_part_cannot_join(run_folder, tmp_path):
    command(publish_run(run_folder))
    leave_student(run_folder)
    add_integers(run_folder, 4)
    path = run_folder / "int4/report.json"
    write_json(path, read_json(path) | {"spec": "0" * 64})
    ships = tmp_path / "ships/models/Pong"
    (run_folder / STUDENT).write_bytes((run_folder / STUDENT).read_bytes() + b"\0")
    score = run_folder / "score/nature/report.json"
    told = read_json(score)
    write_json(score, told | {"models": told["models"] | model_digests("Pong", str(run_folder.parent), ("student",))})
    files = {path.name: path.read_bytes() for path in ships.iterdir()}
    with pytest.raises(SettingsError, match=r"(?s)reports of other models.*int4/report.json: 0{12}"):
        command(publish_run(run_folder))
    assert {path.name: path.read_bytes() for path in ships.iterdir()} == files


def test_a_teacher_that_beat_nothing_is_not_published_again(run_folder, tmp_path):
    path = run_folder / "teacher/report.json"
    facts = read_json(path)
    write_json(path, facts | {"start": {"policy": facts["policy"], "frames": 9000}})
    with pytest.raises(SettingsError, match=r"policy.safetensors: nothing beat what it began as, [0-9a-f]{12}, only"):
        command(publish_run(run_folder))
    assert not (tmp_path / "ships/models/Pong").exists()


@pytest.mark.parametrize("spoil", ["policy", "protocol"])
def test_a_student_of_another_teacher_or_by_other_rules_does_not_join(run_folder, tmp_path, spoil):
    command(publish_run(run_folder))
    leave_student(run_folder)
    path = tmp_path / "ships/models/Pong" / CARD
    facts = read_json(path)
    facts |= {"protocol": {"name": "v5"}} if spoil == "protocol" else {}
    facts["teacher"] |= {"policy": "0" * 64} if spoil == "policy" else {}
    write_json(path, facts)
    before = (path.parent / SHIPPED[STUDENT]).read_bytes()
    found = {
        "policy": r"(?s)other models.*student's teacher: [0-9a-f]{12}, .* 0{12}",
        "protocol": "as what ships, .*'v5'",
    }
    with pytest.raises(SettingsError, match=found[spoil]):
        command(publish_run(run_folder))
    assert (path.parent / SHIPPED[STUDENT]).read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"teacher": {"policy": "0" * 64}},
            r"reports of other models.*\nint4/int4.npz's teacher: [0-9a-f]{12}, .* 0{12}",
        ),
        (
            {"protocol": {"name": "machado"}},
            r"scored by .*'nature'.*, must be as what ships, \{'name': 'machado'\}; run",
        ),
    ],
)
def test_integers_of_another_teacher_or_by_other_rules_do_not_join(run_folder, tmp_path, spoil, message):
    command(publish_run(run_folder))
    leave_integers(run_folder, 4)
    path = tmp_path / "ships/models/Pong/card.json"
    facts = read_json(path)
    write_json(path, {key: {**own, **spoil.get(key, {})} if key == "teacher" else spoil.get(key, own)
                      for key, own in facts.items()})  # fmt: skip
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        command(publish_run(run_folder))
    assert not (path.parent / "int4.npz").exists()


def test_a_run_without_a_teacher_and_without_integers_has_nothing_to_ship(run_folder):
    command(publish_run(run_folder))
    leave_integers(run_folder)
    with pytest.raises(
        SettingsError, match=r"found no teacher, no student and no integers that are scored, must .* BITS=8"
    ):
        command(publish_run(run_folder))


def test_a_missing_report_is_named(run_folder):
    (run_folder / "score/nature/report.json").unlink()
    with pytest.raises(SettingsError, match=r"nature/report\.json does not exist; finish make score GAMES=Pong first"):
        command(publish_run(run_folder))


def test_a_readme_without_marks_is_refused():
    with pytest.raises(SettingsError, match=r"^README.md: the marks .* are missing; put them back"):
        with_results("no marks", "| new |")


def test_no_models_make_a_table_of_headings_alone(tmp_path):
    assert len(results(tmp_path).splitlines()) == 2


def test_a_smoke_run_cannot_ship():
    with pytest.raises(SettingsError, match=r"^root: found runs/smoke, a smoke run"):
        command(PublishRun("Pong", "runs/smoke"))


def shipped(models, game, **of_teacher):
    """A card as the results read it, with shares alone."""
    scores = {player: {"mean": 3.0, "low": 2.0, "high": 4.0, "of_teacher": own} for player, own in of_teacher.items()}
    chip = {"usage": {"total": {"cores": (5, 9)}}, "latency_ticks": 7}
    write_json(models / game / "card.json", {"game": game, "scores": scores, "chip": chip, "protocol": {"episodes": 2}})


def test_the_last_row_is_the_geometric_mean_of_what_all_games_have(tmp_path):
    shipped(tmp_path, "Pong", teacher=1.0, student=0.9, int8=1.1, chip=0.9)
    assert len(results(tmp_path).splitlines()) == 3, "a single game is its own mean"
    shipped(tmp_path, "Qbert", teacher=1.0, student=0.4, chip=0.4)
    last = results(tmp_path).splitlines()[-1]
    assert last == "| geometric mean, of teachers |  | 0.600 | - |  | 0.600 |  |  |  |  |"


def test_a_share_that_is_not_known_leaves_no_mean_and_one_below_0_nothing(tmp_path):
    shipped(tmp_path, "Pong", teacher=1.0, student=0.9, chip=0.9)
    shipped(tmp_path, "Qbert", teacher=1.0, student=None, chip=-0.4)
    last = results(tmp_path).splitlines()[-1]
    assert last == "| geometric mean, of teachers |  | - |  | 0.000 |  |  |  |  |", "below random play is no share"
