"""Who may import whom: the table of the design, read from the source, and a library that needs none of the rest."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("rl", "distill", "deploy")

COMMANDS = {
    "build",
    "verify",
    "score",
    "faults",
    "play",
    "rerun",
    "report",
    "tour",
    "boards",
    "publish",
    "publish_many",
    "collect",
    "inspect",
    "onnx_export",
}
# May use everything of rl, and the screen's or the console's libraries.
PLAYERS = {
    "players",
    "realtime",
    "screens",
    "latest",
    "views",
    "window",
    "terminal",
    "keyboard",
    "panel",
    "video",
    "human",
}
PLAYERS |= {
    "interrupts",
    "replaying",
    "gather",
    "figures",
    "cards",
    "integer_card",
    "student_card",
    "remake",
    "tour_pictures",
    "films",
    "report_page",
    "floorplan",
    "reports",
    "aggregate",
}
ARCADE = {path.stem for path in (ROOT / "deploy" / "arcade").glob("*.py")} - {"__init__"}
PLAYERS |= {"arcade.__init__"} | {f"arcade.{name}" for name in ARCADE}
LIBRARY_NEEDS = {"numpy", "numba", "llvmlite"}  # numba's own compiler interface

RL_COMMANDS = {"rl.train", "rl.collect"}
HYDRA_COMMANDS = RL_COMMANDS | {"distill.train", "distill.finetune", "distill.verify", "distill.faq"}
HYDRA_COMMANDS |= {f"deploy.{name}" for name in COMMANDS}
CONFIG = {"hydra", "omegaconf"}
# The spec, and the rules by which a student's cores and energy are predicted while it trains.
DISTILL_MAY = {f"deploy.{name}" for name in ("spec", "files", "integer", "integer_spec", "chip", "tiling", "energy")}
SWEEP = "rl.sweep"  # a command's job in a sweep: part of commands, and of nothing else


def modules(folder: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / folder).rglob("*.py"))
    }


def imports(path: Path) -> set[str]:
    """Everything that a file imports anywhere in it, as full module names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative imports hide who is meant"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if node.module in OURS}
    return found


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def foreign(names: set[str]) -> set[str]:
    """Packages that are neither ours nor the standard library's."""
    return tops(names) - set(OURS) - sys.stdlib_module_names


ALL = {name: imports(path) for folder in OURS for name, path in modules(folder).items()}
DEPLOY = {name.partition(".")[2] for name in ALL if name.startswith("deploy.")} - {"__init__"}
LIBRARY = sorted(DEPLOY - COMMANDS - PLAYERS)


def test_the_files_named_here_exist():
    assert DEPLOY >= PLAYERS and {"spec", "compiler", "emulator", "engine", "files"} <= set(LIBRARY)
    assert set(ALL) >= RL_COMMANDS | {"distill.train", "deploy.build", "deploy.play"}


@pytest.mark.parametrize("name", sorted(name for name in ALL if name.startswith("rl.")))
def test_rl_imports_nothing_of_ours_but_itself(name):
    assert not tops(ALL[name]) & {"distill", "deploy"}


@pytest.mark.parametrize("name", sorted(name for name in ALL if name.startswith("distill.")))
def test_distill_imports_rl_the_spec_and_what_predicts_a_chip_alone(name):
    assert {found for found in ALL[name] if found.startswith("deploy")} <= DISTILL_MAY


@pytest.mark.parametrize("name", sorted(name for name in ALL if name.startswith("deploy.")))
def test_deploy_never_imports_distill(name):
    assert "distill" not in tops(ALL[name])


@pytest.mark.parametrize("name", LIBRARY)
def test_the_deploy_library_needs_numpy_and_numba_alone(name):
    found = ALL[f"deploy.{name}"]
    assert foreign(found) <= LIBRARY_NEEDS and "rl" not in tops(found)
    above = {f"deploy.{other}" for other in COMMANDS | PLAYERS}
    assert not found & above, "the library knows nothing of what is built on it"


@pytest.mark.parametrize("name", sorted(ALL))
def test_only_commands_import_hydra(name):
    assert name in HYDRA_COMMANDS | {SWEEP} or not tops(ALL[name]) & CONFIG


@pytest.mark.parametrize("name", sorted(ALL))
def test_only_commands_know_of_sweeps(name):
    assert name in HYDRA_COMMANDS or SWEEP not in ALL[name]


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_module_imports_a_command(name):
    assert not ALL[name] & HYDRA_COMMANDS - {name}


@pytest.mark.parametrize("name", sorted(ALL))
def test_what_is_imported_of_ours_exists(name):
    ours = {found for found in ALL[name] if found.partition(".")[0] in OURS and "." in found}
    assert ours <= set(ALL)


BLOCKED = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "ale_py", "hydra", "omegaconf", "cv2", "rl", "distill"}:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Wall())
import importlib
import deploy
for name in sys.argv[1:]:
    importlib.import_module(f"deploy.{name}")
from cases import SPECS, pictures
from deploy.chip import CHIPS
from deploy.compiler import compile_spec
spec = SPECS["one_layer"]()
compiled = compile_spec(spec, CHIPS["tiny"], seed=1)
print(spec.run(pictures(spec, 2)).shape, compiled.spec_digest == spec.digest)
"""


def test_the_deploy_library_works_without_torch_games_and_hydra():
    search = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", search + BLOCKED, *LIBRARY], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 2) True\n"
