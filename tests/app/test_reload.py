"""The parts of a configuration that may change while the server runs."""

from __future__ import annotations

from msgspec.structs import replace

from nexus_tw.app.reload import renewed
from nexus_tw.model.settings import Auth, Heartbeat, Http, Key, Limits, Log, Realm, Role, Settings, Tls

HELD = Settings(realms={"realm1": Realm(anonymous="guest")}, roles={"guest": Role()})


def test_nothing_changes_where_nothing_has() -> None:
    assert renewed(HELD, replace(HELD)) == (HELD, [])


def test_sections_that_may_change_are_taken_whole() -> None:
    read = replace(
        HELD,
        log=Log(level="debug"),
        roles={"guest": Role(publish=("a.b",))},
        tls=Tls(certificate="c", key="k"),
        http=Http(origins=("https://a.example",)),
        limits=Limits(subscriptions=1, connections=7),
        auth=Auth(keys=(Key("s", "guest", "sha256:" + "0" * 64),)),
    )
    assert renewed(HELD, read) == (read, [])


def test_what_needs_a_restart_is_kept_and_named_beside_what_changes() -> None:
    read = replace(
        HELD,
        listen=("tcp:1",),
        heartbeat=Heartbeat(interval=1),
        limits=Limits(subscriptions=1, depth=9),
        http=Http(origins=("https://a.example",), dashboard=False),
        auth=Auth(plugins=("p",)),
    )
    settings, fixed = renewed(HELD, read)
    assert fixed == ["listen", "heartbeat", "limits.depth", "http.dashboard", "auth.plugins"]
    assert settings == replace(HELD, limits=Limits(subscriptions=1), http=Http(origins=("https://a.example",)))


def test_of_a_realm_the_anonymous_role_may_change() -> None:
    read = replace(HELD, realms={"realm1": Realm(anonymous="", disclose=True), "realm2": Realm()})
    settings, fixed = renewed(HELD, read)
    assert settings.realms["realm1"] == Realm(anonymous="")
    assert "realm2" not in settings.realms
    assert fixed == ["realms.realm1", "realms.realm2"]
