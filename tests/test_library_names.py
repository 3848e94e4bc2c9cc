"""What `from deploy import ...` gives, and that it costs nothing until it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import deploy


@pytest.mark.parametrize("name", deploy.__all__)
def test_every_name_is_that_of_its_file(name):
    assert getattr(deploy, name) is getattr(import_module(f"deploy.{deploy._HOME[name]}"), name)


def test_files_are_still_found_by_name():
    from deploy import chip, wave

    assert (chip.__name__, wave.__name__) == ("deploy.chip", "deploy.wave")


def test_an_unknown_name_is_refused_by_name():
    with pytest.raises(AttributeError, match=r"^deploy: no name 'Ship' here"):
        deploy.Ship  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Ship' from 'deploy'"):
        from deploy import Ship  # noqa: F401


def test_importing_the_package_loads_nothing():
    code = "import sys, deploy; print(sorted(m for m in sys.modules if m.startswith(('numba', 'numpy', 'deploy.'))))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.stdout == "[]\n"
