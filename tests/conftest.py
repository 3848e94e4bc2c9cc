"""What several test files ask for by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

from deploy.engines import ENGINES

settings.register_profile("no wall-clock", deadline=None)  # a busy machine is no fault of ours
settings.load_profile("no wall-clock")


@pytest.fixture(params=ENGINES.values(), ids=list(ENGINES))
def kind(request: pytest.FixtureRequest) -> Any:
    """The constructor of an engine: whatever is in ENGINES is held to the contract."""
    return request.param


@pytest.fixture(params=[name for name in ENGINES if name != "plain"])
def fast(request: pytest.FixtureRequest) -> Any:
    """The constructor of an engine that must equal the plain emulator."""
    return ENGINES[request.param]
