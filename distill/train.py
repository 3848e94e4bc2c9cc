"""make distill: teachers -> one student of trinary weights and binary activations; the same command goes on."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.spec import load_spec
from distill.distiller import Distiller
from distill.judge import exam, keep_best, lines, report
from distill.settings import DistillRun
from rl.board import Board, Ticker
from rl.command import Stop, launch, only_one, run, settings
from rl.memory import keep_freed_memory
from rl.parallel import ALONE, Team, team
from rl.settings import SettingsError
from rl.stages import STUDENT


def distil(config: DistillRun, distiller: Distiller, board: Board | None, stop: Stop, us: Team = ALONE) -> bool:
    """Run to the end of the budget or to a signal; True when the job is done. The first process alone has a board."""
    own, folder = config.distill, config.folder
    ticker, saved_s = Ticker(own.updates, distiller.update, unit="updates"), time.monotonic()
    while distiller.update < own.updates and not us.agree(int(bool(stop)))[0]:
        told = distiller.step()
        if board is None:
            continue
        if distiller.update % own.log_updates == 0:
            told |= distiller.own_scores()
            board.write(distiller.update, told | distiller.learner.health() | {"time/wall_s": distiller.wall_s})
            ticker.show(distiller.update, "  ".join(f"{k.split('/')[-1]} {v:.4f}" for k, v in told.items()))
        judged = _judged(config, distiller, board, ticker)
        # With every judgement too: a run that goes on must know what it has to beat.
        if judged or time.monotonic() - saved_s >= own.checkpoint_s:
            distiller.save(folder / "state.safetensors")
            saved_s = time.monotonic()
    done = distiller.update >= own.updates
    if done and board is not None and distiller.judged != distiller.update:  # told to end earlier than at first
        ticker.say(_played(config, distiller, board))
    distiller.save(folder / "state.safetensors")
    return done


def _judged(config: DistillRun, distiller: Distiller, board: Board, ticker: Ticker) -> bool:
    """Play where that is due; elsewhere now and then an exam alone."""
    own, update = config.distill, distiller.update
    if update == own.updates or (update >= own.eval_start_updates and update % own.eval_updates == 0):
        ticker.say(_played(config, distiller, board))
        return True
    if update % own.exam_updates == 0:
        board.write(update, exam(distiller, distiller.folded()))
    return False


def _played(config: DistillRun, distiller: Distiller, board: Board) -> str:
    distiller.judged = distiller.update
    return keep_best(config, distiller, board)


def need_not_finetuned(config: DistillRun, update: int) -> None:
    """Raise SettingsError where distilling on from `update` would replace a student that learned on by play."""
    path = config.folder / Path(STUDENT).name
    left = config.distill.updates - update
    if left > 0 and path.exists() and "finetuned_from" in load_spec(path)[1]:
        raise SettingsError(
            f"{path}: learned on by play (make finetune), distilling on for {left:,} updates would take its place; "
            "use another root=... or remove it"
        )


def command(config: DistillRun, text: str) -> int:
    with team() as us, only_one(us.folder(config.folder)):
        return _command(config, text, us)


def _command(config: DistillRun, text: str, us: Team) -> int:
    folder = config.folder
    distiller = Distiller(config, us)
    with closing(distiller):
        _go_on(config, distiller, us)
        stop = Stop()  # there is nothing to keep before
        if us.rank:
            done = distil(config, distiller, None, stop, us)
        else:
            with Board(folder, distiller.update) as board:
                board.text("config", f"```\n{text}\n```")
                done = distil(config, distiller, board, stop, us)
    if not done:
        _say(us, f"{folder}: stopped at update {distiller.update:,}; the same command goes on")
        return stop.status()
    stop.restore()
    if us.rank == 0:
        print("\n".join(lines(report(config, distiller))), f"{folder / Path(STUDENT).name}", sep="\n")
    return 0


def _go_on(config: DistillRun, distiller: Distiller, us: Team) -> None:
    """From the state that was saved, from students that it is to begin as, or from nothing."""
    state = config.folder / "state.safetensors"
    if us.share(state.exists()):
        distiller.resume(state)
        need_not_finetuned(config, distiller.update)
        as_what = "".join(f", begun as {own['spec'][:16]}" for own in distiller.start)
        _say(us, f"{config.folder}: going on at update {distiller.update:,}{as_what}")
    elif config.distill.start:
        distiller.begin_as([Path(own) for own in config.distill.start])


def _say(us: Team, text: str) -> None:
    if us.rank == 0:
        print(text, flush=True)


@hydra.main(version_base=None, config_path="../conf", config_name="distill")
def main(tree: DictConfig) -> None:
    """Distil, or go on distilling."""
    keep_freed_memory()
    text = OmegaConf.to_yaml(tree, resolve=True)
    run(lambda: command(settings(DistillRun, OmegaConf.to_container(tree, resolve=True)), text))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)
