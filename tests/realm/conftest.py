"""Fixtures of the realm's tests."""

from __future__ import annotations

import pytest

from nexus_tw.model.settings import Realm
from tests.auth.conftest import logged as logged
from tests.protocols.wamp.rules.core import World


@pytest.fixture
def world() -> World:
    return World({"other": Realm()})
