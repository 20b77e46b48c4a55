"""Shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data not found: {SHARED} does not exist")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Numbers computed with the original GLoRIA implementations."""
    return shared / "golden"


@pytest.fixture(scope="session")
def covid_lungs(shared: Path) -> Path:
    """The reduced copy of the covid-lungs dataset."""
    return shared / "data" / "covid-lungs"
