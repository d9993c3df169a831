"""Fixtures of the realm's tests."""

from __future__ import annotations

from tests.auth.conftest import logged as logged
