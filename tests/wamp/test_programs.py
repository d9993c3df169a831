"""Clients of others, each in a process of its own: xconn and Autobahn|Python on asyncio, AutobahnJS and wampy.js on Node."""

from __future__ import annotations

import sys

import pytest

from tests.wamp.programs import CLIENTS, Program, users
from tests.wamp.router import Router
from tests.wamp.users import SERIALIZERS, USERS, WAYS

SIGNED = ("ticket", "wampcra", "cryptosign")
NAMES = [name for name, user in USERS.items() if user.method in SIGNED]
"""The users that every client can be; SCRAM is Autobahn|Python's alone."""

WAY_NAMES = ["-".join(way) for way in WAYS]
XCONN = [f"{way}-{name}-converses" for way in WAY_NAMES for name in ("anonymous", *NAMES)]
XCONN += [f"{way}-{name}-wrong" for way in WAY_NAMES for name in NAMES]
BY_WEBSOCKET = [f"ws-{serializer}" for serializer in SERIALIZERS]


@pytest.fixture(scope="module")
def xconn(router: Router, tmp_path_factory: pytest.TempPathFactory) -> Program:
    command = [sys.executable, "-m", "tests.wamp.clients.xconn_client", router.ws, router.rs]
    return Program(tmp_path_factory.mktemp("xconn"), "xconn", command)


@pytest.fixture(scope="module")
def autobahn_asyncio(router: Router, tmp_path_factory: pytest.TempPathFactory) -> Program:
    command = [sys.executable, "-m", "tests.wamp.clients.autobahn_asyncio", str(router.port)]
    return Program(tmp_path_factory.mktemp("asyncio"), "asyncio", command)


@pytest.fixture(scope="module")
def autobahn_js(router: Router, tmp_path_factory: pytest.TempPathFactory) -> Program:
    command = ["node", str(CLIENTS / "autobahn_js.mjs"), str(router.port), users(SIGNED)]
    return Program(tmp_path_factory.mktemp("autobahn_js"), "autobahn_js", command)


@pytest.fixture(scope="module")
def wampy(router: Router, tmp_path_factory: pytest.TempPathFactory) -> Program:
    command = ["node", str(CLIENTS / "wampy.mjs"), str(router.port), users(SIGNED)]
    return Program(tmp_path_factory.mktemp("wampy"), "wampy", command)


@pytest.mark.parametrize("case", XCONN)
def test_xconn(xconn: Program, case: str) -> None:
    assert xconn.passed(case)


@pytest.mark.parametrize("case", WAY_NAMES)
def test_autobahn_python_on_asyncio(autobahn_asyncio: Program, case: str) -> None:
    assert autobahn_asyncio.passed(case)


@pytest.mark.parametrize("case", [*BY_WEBSOCKET, "rs-json", *NAMES])
def test_autobahn_js(autobahn_js: Program, case: str) -> None:
    assert autobahn_js.passed(case)


@pytest.mark.parametrize("case", [*BY_WEBSOCKET, *NAMES])
def test_wampy_js(wampy: Program, case: str) -> None:
    assert wampy.passed(case)
