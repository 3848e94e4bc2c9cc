"""Slurm's commands, as far as a job array of this machine needs them: `fake_slurm.py sbatch|srun|sacct ARGUMENTS`.

`sbatch FILE` keeps the batch script and begins every task of its array; `sacct` says what became of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ID = "777"
HERE = Path(os.environ.get("FAKE_SLURM", "."))


def install(folder: Path) -> None:
    """Commands of these names in a folder, to go first on PATH."""
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" {name} "$@"\n')
        (folder / name).chmod(0o755)


def sbatch(arguments: list[str]) -> None:
    script = Path(arguments[-1]).read_text()
    shutil.copy(arguments[-1], HERE / "batch.sh")
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    for task in range(first, last + 1):
        env = os.environ | {"SLURM_JOB_ID": f"{ID}{task}", "SLURM_ARRAY_JOB_ID": ID, "SLURM_ARRAY_TASK_ID": str(task)}
        env |= {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
        env |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "localhost"}
        out = (HERE / f"{task}.txt").open("w")
        subprocess.Popen(["bash", HERE / "batch.sh"], env=env, stdout=out, stderr=out, start_new_session=True)
    (HERE / "tasks").write_text(str(last + 1))
    print(f"Submitted batch job {ID}")


def srun(arguments: list[str]) -> None:
    """The command behind srun's own options; it is over when that is."""
    begin = next(i for i, word in enumerate(arguments) if word.startswith("/") and "python" in word)
    status = subprocess.run(arguments[begin:], check=False).returncode
    (HERE / f"{os.environ['SLURM_ARRAY_TASK_ID']}.state").write_text("FAILED" if status else "COMPLETED")


def sacct(arguments: list[str]) -> None:
    print("JobID|State|NodeList")
    for task in range(int((HERE / "tasks").read_text())):
        state = HERE / f"{task}.state"
        print(f"{ID}_{task}|{state.read_text() if state.exists() else 'RUNNING'}|localhost")


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "sacct": sacct, "scancel": print}[sys.argv[1]](sys.argv[2:])
