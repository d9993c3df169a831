"""The configuration: precedence of its sources, and error texts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import FieldInfo, fields

import nexus_tw
from nexus_tw.app.config import Configuration, load
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import ADMIN
from nexus_tw.model.settings import Settings
from nexus_tw.transport.listening.listen import is_local
from tests.auth.tokens import ISSUER, pem, rsa_key
from tests.certificates import issue

EXAMPLES = Path(nexus_tw.__file__).parent.parent / "conf"
HASH = "sha256:" + "0" * 64
HEX = "0" * 64
KEY = f'[roles.agent]\n[[auth.keys]]\nsubject = "agent-1"\nrole = "agent"\nhash = "{HASH}"\n'
SCRAM = (
    "[roles.agent]\n[[auth.scram]]\nsubject = 'a'\nrole = 'agent'\nkdf = 'pbkdf2'\n"
    f"salt = '{'00' * 8}'\niterations = 1\nstored_key = '{HEX}'\nserver_key = '{HEX}'\n"
)
GUEST = "[roles.guest]\nrealms = ['realm1']\n[realms.realm1]\nanonymous = 'guest'\n"

GIVEN = {"NEXUS_TOKEN": "a-token-of-23-characters"}
NOBODY = {"NEXUS_TOKEN": ""}

Load = Callable[..., Configuration]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load with the given content as the file `conf.toml`, environment and options; with a token unless it is `NOBODY`'s."""

    def loaded(content: str | None = None, environ: Mapping[str, str] | None = None, **options: Any) -> Configuration:
        if content is not None:
            file = tmp_path / "conf.toml"
            file.write_text(content)
            options["config"] = str(file)
        return load(options, {**GIVEN, **(environ or {})})

    return loaded


def complaint(load: Load, content: str | None = None, environ: Mapping[str, str] | None = None, **options: Any) -> str:
    """Return the text of the error, without the directory of the file."""
    with pytest.raises(ConfigError) as caught:
        load(content, environ, **options)
    return re.sub(r"\S*/conf\.toml", "conf.toml", str(caught.value))


# --- what wins ----------------------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold_and_a_token_is_made_for_this_start(loaded: Load) -> None:
    one, other = loaded(None, NOBODY), loaded(None, NOBODY)
    assert one.settings == Settings()
    assert one.one_off
    assert one.token is not None
    assert len(one.token) >= 43
    assert one.token != other.token


def test_an_option_wins_over_the_environment_that_over_the_file_and_that_over_the_default(loaded: Load) -> None:
    file = 'listen = ["tcp:1"]\n[bus]\nurl = "redis://file"\n[store]\nurl = "sqlite:file"\n'
    environ = {"NEXUS_LISTEN": "tcp:2", "NEXUS_BUS": "redis://environment", "NEXUS_STORE": "sqlite:environment"}
    options = {"listen": ["tcp:3", "tcp:4"], "bus": "redis://option", "store": "sqlite:option"}

    def seen(configuration: Configuration) -> tuple[Any, ...]:
        settings = configuration.settings
        return settings.listen, settings.bus.url, settings.store.url

    assert seen(loaded(file)) == (("tcp:1",), "redis://file", "sqlite:file")
    assert seen(loaded(file, environ)) == (("tcp:2",), "redis://environment", "sqlite:environment")
    assert seen(loaded(file, environ, **options)) == (("tcp:3", "tcp:4"), "redis://option", "sqlite:option")
    assert seen(loaded(None, environ)) == (("tcp:2",), "redis://environment", "sqlite:environment")
    assert seen(loaded(None, {}, **options)) == (("tcp:3", "tcp:4"), "redis://option", "sqlite:option")


def test_workers_and_echo_come_by_option_environment_or_file(loaded: Load) -> None:
    redis = {"NEXUS_BUS": "redis://host"}
    assert loaded("workers = 2\necho = true", redis).settings.workers == 2
    assert loaded("workers = 2", {**redis, "NEXUS_WORKERS": "3"}).settings.workers == 3
    assert loaded("workers = 2", {**redis, "NEXUS_WORKERS": "3"}, workers="4").settings.workers == 4
    assert loaded("echo = true").settings.echo
    assert not loaded("echo = true", {"NEXUS_ECHO": "0"}).settings.echo
    assert loaded("echo = false", echo=1).settings.echo


def test_options_that_were_not_given_change_nothing(loaded: Load) -> None:
    nothing: dict[str, Any] = {
        "config": None,
        "listen": [],
        "bus": None,
        "store": "",
        "token": None,
        "workers": None,
        "echo": 0,
    }
    assert loaded(None, {}, **nothing).settings == Settings()


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, loaded: Load) -> None:
    (tmp_path / "other.toml").write_text("drain = 3")
    environ = {"NEXUS_CONFIG": str(tmp_path / "other.toml")}
    assert loaded(None, environ).settings.drain == 3.0
    assert loaded("drain = 4", environ).settings.drain == 4.0


def test_modules_are_found_beside_the_file_unless_it_says_where(tmp_path: Path, loaded: Load) -> None:
    assert loaded().settings.python_path == ""
    assert loaded("drain = 3").settings.python_path == str(tmp_path)
    assert loaded('python_path = "/opt/fleet"').settings.python_path == "/opt/fleet"
    assert loaded("drain = 3", {"NEXUS_PYTHON_PATH": "/opt/other"}).settings.python_path == "/opt/other"


def test_port_and_redis_url_are_what_platforms_set_and_the_own_names_win(loaded: Load) -> None:
    environ = {"PORT": "8080", "REDIS_URL": "redis://platform"}
    settings = loaded('listen = ["tcp:1"]\n[bus]\nurl = "redis://file"', environ).settings
    assert (settings.listen, settings.bus.url) == (("tcp:8080",), "redis://platform")
    settings = loaded(None, {**environ, "NEXUS_LISTEN": "tcp:2", "NEXUS_BUS": "memory:"}).settings
    assert (settings.listen, settings.bus.url) == (("tcp:2",), "memory:")
    assert loaded(None, {**environ, "NEXUS_BUS__URL": "redis://long"}).settings.bus.url == "redis://long"


def test_an_empty_variable_is_one_that_is_not_set(loaded: Load) -> None:
    names = (
        "NEXUS_CONFIG",
        "NEXUS_LISTEN",
        "NEXUS_BUS",
        "NEXUS_TOKEN",
        "PORT",
        "REDIS_URL",
        "NEXUS_HEARTBEAT__INTERVAL",
        "NEXUS_X",
    )
    configuration = loaded(None, dict.fromkeys(names, ""))
    assert configuration.settings == Settings()
    assert configuration.one_off


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_a_given_token_is_used_and_not_to_be_shown(loaded: Load) -> None:
    option, environment = "option-with-16-c", {"NEXUS_TOKEN": "environment-with-20c"}
    assert (loaded(None, NOBODY, token=option).token, loaded(None, NOBODY, token=option).one_off) == (option, False)
    assert loaded(None, environment).token == environment["NEXUS_TOKEN"]
    assert loaded(None, environment, token=option).token == option


def test_with_auth_in_the_file_no_token_is_made_and_a_given_one_is_kept_beside_it(loaded: Load) -> None:
    assert (loaded(KEY, NOBODY).token, loaded(KEY, NOBODY).one_off) == (None, False)
    assert loaded(KEY, GIVEN).token == GIVEN["NEXUS_TOKEN"]


@pytest.mark.parametrize("content", ["", "[auth]\nkeys = []", (EXAMPLES / "production.toml").read_text()])
def test_a_file_without_any_auth_and_no_token_refuses_to_start_instead_of_printing_a_token(content: str, loaded: Load) -> None:
    assert complaint(loaded, content, NOBODY).startswith("conf.toml: auth: nobody could come in: set NEXUS_TOKEN, or write")


@pytest.mark.parametrize("name", ["NEXUS_BUS", "REDIS_URL"])
def test_a_shared_bus_without_any_auth_refuses_to_start_as_a_token_of_one_node_is_none_of_the_others(
    name: str, loaded: Load
) -> None:
    assert complaint(loaded, None, {**NOBODY, name: "redis://host"}).startswith("auth: nobody could come in")


@pytest.mark.parametrize(
    "environ", [{}, {"PORT": "8080"}, {"NEXUS_LISTEN": "tcp:80,unix:/tmp/s"}, {"NEXUS_LOG__FORMAT": "json", "NEXUS_ECHO": "1"}]
)
def test_a_first_look_gets_its_token(environ: dict[str, str], loaded: Load) -> None:
    assert loaded(None, {**NOBODY, **environ}).one_off


LOCAL = (
    "tcp:3000:interface=127.0.0.1",
    "tcp:port=3000:interface=127.8.8.8:backlog=5",
    r"tcp:3000:interface=\:\:1",
    r"tcp6:3000:interface=\:\:1",
    "tcp:3000:interface=localhost",
    "unix:/run/nexus.sock",
)
OPEN = (
    "tcp:3000",
    "tcp:3000:interface=10.0.0.1",
    "tcp:3000:interface=",
    r"tcp:3000:interface=\:\:",
    "tcp:3000:interface=nexus.example",
    "systemd:domain=INET:index=0",
    "haproxy:tcp:3000:interface=127.0.0.1",
)


@pytest.mark.parametrize("endpoint", OPEN)
def test_a_token_under_16_characters_is_refused_unless_all_listeners_are_on_loopback(endpoint: str, loaded: Load) -> None:
    text = complaint(loaded, None, {"NEXUS_TOKEN": "x" * 15}, listen=[LOCAL[0], endpoint])
    assert text == f"token: must have 16 characters or more where other machines can connect: {endpoint} (from NEXUS_TOKEN)"
    assert loaded(None, {"NEXUS_TOKEN": "x" * 16}, listen=[endpoint]).token == "x" * 16
    assert "--token" in complaint(loaded, KEY, token="hunter2", listen=[endpoint])


def test_on_loopback_any_token_will_do(loaded: Load) -> None:
    assert loaded(None, {"NEXUS_TOKEN": "x"}, listen=LOCAL).token == "x"
    for kind in ("tls", "ssl"):
        assert is_local(f"{kind}:443:interface=127.0.0.1")
        assert not is_local(f"{kind}:443")


@pytest.mark.parametrize("token", ["two words", "né", "line\nbreak", "x" * 8193])
def test_a_token_that_no_header_could_carry_is_refused_and_not_repeated(token: str, loaded: Load) -> None:
    text = complaint(loaded, KEY, {"NEXUS_TOKEN": token})
    assert text.startswith("token: must be")
    assert token not in text


def test_a_token_is_not_in_the_repr(loaded: Load) -> None:
    configuration = loaded(None, {"NEXUS_TOKEN": "hunter2" * 3, "NEXUS_BUS": "redis://:hunter2@host"})
    assert "hunter2" not in repr(configuration)


# --- the environment's names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "read", "value"),
    [
        ("NEXUS_DRAIN", "2.5", lambda s: s.drain, 2.5),
        ("NEXUS_ECHO_MESSAGE", "1", lambda s: s.echo_message, 1),
        ("NEXUS_HEARTBEAT__INTERVAL", "5", lambda s: s.heartbeat.interval, 5.0),
        ("NEXUS_LIMITS__SEND_QUEUE", "1_000", lambda s: s.limits.send_queue, 1000),
        ("NEXUS_LIMITS", "{message = 5, rate = 6}", lambda s: (s.limits.message, s.limits.rate, s.limits.errors), (5, 6, 100)),
        ("NEXUS_STORE__RETENTION", "0", lambda s: s.store.retention, "0"),
        ("NEXUS_LOG__LEVEL", "debug", lambda s: s.log.level, "debug"),
        ("NEXUS_HTTP__DASHBOARD", "no", lambda s: s.http.dashboard, False),
        ("NEXUS_HTTP__METRICS_OPEN", "TRUE", lambda s: s.http.metrics_open, True),
        ("NEXUS_HTTP__ORIGINS", "https://a.example, https://b.example,", lambda s: len(s.http.origins), 2),
        ("NEXUS_HTTP__ORIGINS", '["https://a.example"]', lambda s: s.http.origins, ("https://a.example",)),
        ("NEXUS_HTTP__ORIGINS", "file://,null,app:me", lambda s: s.http.origins, ("file://", "null", "app:me")),
        ("NEXUS_HTTP__TRUSTED_PROXIES", "[]", lambda s: s.http.trusted_proxies, ()),
        ("NEXUS_LISTEN", "tcp:1,unix:/tmp/n.sock", lambda s: s.listen, ("tcp:1", "unix:/tmp/n.sock")),
        ("NEXUS_ROLES__AGENT__SUBSCRIBE", "task.**,agent.**", lambda s: s.roles["agent"].subscribe, ("task.**", "agent.**")),
        ("NEXUS_ROLES__AGENT__ADMIN", "1", lambda s: s.roles["agent"].admin, True),
        ("NEXUS_ROLES", '{Ops = {call = ["**"]}}', lambda s: s.roles["Ops"].call, ("**",)),
        ("NEXUS_COMMANDS", '[{name = "a", handler = "b:c"}]', lambda s: s.commands[0].handler, "b:c"),
        ("NEXUS_TLS__KEY", "5", lambda s: s.tls.key, "5"),
        ("NEXUS_REALMS__REALM1__URIS", "strict", lambda s: s.realms["realm1"].uris, "strict"),
        ("NEXUS_REALMS__NEXUS__DISCLOSE", "yes", lambda s: s.realms["nexus"].disclose, True),
        ("NEXUS_HISTORY__COUNT", "0", lambda s: s.history.count, 0),
        ("NEXUS_HISTORY__TASK.**__COUNT", "7", lambda s: s.history.patterns["task.**"].count, 7),
        ("NEXUS_HISTORY", '{age = 5, Log = {age = 6}}', lambda s: (s.history.age, s.history.patterns["Log"].age), (5.0, 6.0)),
        ("NEXUS_ROLES__AGENT__REALMS", "nexus,*", lambda s: s.roles["agent"].realms, ("nexus", "*")),
    ],
)
def test_every_kind_of_key_can_be_set_by_its_variable(
    name: str, text: str, read: Callable[[Settings], Any], value: Any, loaded: Load
) -> None:
    assert read(loaded(None, {name: text}).settings) == value


def test_a_variable_changes_its_own_key_and_leaves_the_rest_of_the_file(loaded: Load) -> None:
    file = '[roles.Read-Only]\nread = ["**"]\n[heartbeat]\ninterval = 7\n'
    environ = {"NEXUS_HEARTBEAT__TIMEOUT": "20", "NEXUS_ROLES__READ-ONLY__SUBSCRIBE": "task.*"}
    settings = loaded(file, environ).settings
    assert (settings.heartbeat.interval, settings.heartbeat.timeout) == (7.0, 20.0)
    assert list(settings.roles) == ["Read-Only"]
    assert (settings.roles["Read-Only"].read, settings.roles["Read-Only"].subscribe) == (("**",), ("task.*",))


def test_a_sections_key_wins_over_the_section(loaded: Load) -> None:
    environ = {"NEXUS_LIMITS__RATE": "1", "NEXUS_LIMITS": "{rate = 2, errors = 3}"}
    limits = loaded(None, environ).settings.limits
    assert (limits.rate, limits.errors) == (1, 3)


def test_every_key_there_is_has_a_variable(loaded: Load) -> None:
    for section in Settings.__struct_fields__:
        value = getattr(Settings(), section)
        for key in getattr(value, "__struct_fields__", ()):
            default = getattr(value, key)
            if not isinstance(default, tuple | dict) and default != "":
                name = f"NEXUS_{section}__{key}".upper()
                assert getattr(getattr(loaded(None, {name: str(default)}).settings, section), key) == default, name


@pytest.mark.parametrize(
    "environ",
    [
        {"NEXUS_URL": "http://localhost:3000"},
        {"NEXUSES": "1", "MY_NEXUS_X": "1", "PATH": "/bin"},
        {
            "NEXUS_PORT": "tcp://10.0.0.1:3000",
            "NEXUS_SERVICE_HOST": "10.0.0.1",
            "NEXUS_SERVICE_PORT": "3000",
            "NEXUS_SERVICE_PORT_HTTP": "3000",
            "NEXUS_PORT_3000_TCP": "tcp://10.0.0.1:3000",
            "NEXUS_PORT_3000_TCP_ADDR": "10.0.0.1",
            "NEXUS_REDIS_SERVICE_HOST": "10.0.0.2",
            "NEXUS_REDIS_PORT": "tcp://10.0.0.2:6379",
        },
        {  # of services whose names begin like a section
            "NEXUS_STORE_SERVICE_HOST": "10.0.0.3",
            "NEXUS_STORE_SERVICE_PORT": "5432",
            "NEXUS_STORE_SERVICE_PORT_PSQL": "5432",
            "NEXUS_STORE_PORT": "tcp://10.0.0.3:5432",
            "NEXUS_STORE_PORT_5432_TCP_PROTO": "tcp",
            "NEXUS_BUS_NAME": "/app/bus",
            "NEXUS_ROLES_SERVICE_HOST": "10.0.0.4",
            "NEXUS_ROLES_PORT": "tcp://10.0.0.4:80",
        },
        {  # of Sonatype's Nexus
            "NEXUS_CONTEXT": "/",
            "NEXUS_DATA": "/nexus-data",
            "NEXUS_SECURITY_RANDOMPASSWORD": "false",
            "NEXUS_USERNAME": "admin",
            "NEXUS_PASSWORD": "x",
            "NEXUS_VERSION": "3.70",
        },
    ],
)
def test_variables_of_others_are_left_alone(environ: dict[str, str], loaded: Load) -> None:
    assert loaded(None, environ).settings == Settings()


# --- what is wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[limits]\nmessages = 1", "conf.toml: limits.messages: unknown key (did you mean 'message'?)"),
        ("[limit]\nmessage = 1", "conf.toml: limit: unknown key (did you mean 'limits'?)"),
        ("zebra = 1", "conf.toml: zebra: unknown key"),
        ("[roles.agent]\nsubscrib = []", "conf.toml: roles.agent.subscrib: unknown key (did you mean 'subscribe'?)"),
        ('[roles."a b"]\nx = 1', 'conf.toml: roles."a b".x: unknown key'),
        ("[heartbeat]\ninterval = -1", "conf.toml: heartbeat.interval: Expected float > 0.0, got -1"),
        ("[heartbeat]\ninterval = '5'", "conf.toml: heartbeat.interval: Expected float, got '5'"),
        ("[heartbeat]\ninterval = nan", "conf.toml: heartbeat.interval: Expected float > 0.0, got nan"),
        ("[heartbeat]\ninterval = inf", "conf.toml: heartbeat.interval: Expected float <= 604800.0, got inf"),
        ("heartbeat = 5", "conf.toml: heartbeat: Expected a table, got 5"),
        ("roles = []", "conf.toml: roles: Expected a table, got a list"),
        ("workers = true", "conf.toml: workers: Expected int, got True"),
        ("workers = 0", "conf.toml: workers: Expected int >= 1, got 0"),
        ("workers = 1.5", "conf.toml: workers: Expected int, got 1.5"),
        ("echo = 1", "conf.toml: echo: Expected bool, got 1"),
        ("listen = 'tcp:1'", "conf.toml: listen: Expected a list, got 'tcp:1'"),
        ("listen = [1]", "conf.toml: listen: Expected str, got a list"),
        ("[log]\nformat = 'xml'", "conf.toml: log.format: Expected one of text, json, got 'xml'"),
        ("[auth.keys]", "conf.toml: auth.keys: Expected a list of tables, got a table"),
        ("[[auth.keys]]\nsubject = 'a'\nrole = 'b'", "conf.toml: auth.keys[0].hash: is missing"),
        ("[bus]\nurl = 5", "conf.toml: bus.url: Expected str, got a different value"),
        ("[store]\nretention = '30 days'", "conf.toml: store.retention: Expected str matching regex"),
        ("[[commands]]\nname = 'a'\nhandler = 'no_module'", "conf.toml: commands[0].handler: Expected str matching regex"),
        ("[realms.realm1]\nanonymus = 'a'", "conf.toml: realms.realm1.anonymus: unknown key (did you mean 'anonymous'?)"),
        ("[realms.realm1]\nuris = 'lax'", "conf.toml: realms.realm1.uris: Expected one of loose, strict, got 'lax'"),
        ("[realms.realm1]\nauthorizer = 'x'", "conf.toml: realms.realm1.authorizer: Expected str matching regex"),
        ("[[auth.wampcra]]\nsubject = 'a'", "conf.toml: auth.wampcra[0].role: is missing"),
        ("[[auth.wampcra]]\nsubject = 'a'\nrole = 'b'\nkey = 5", "conf.toml: auth.wampcra[0].key: Expected str, got a"),
        ("[[auth.wampcra]]\nsubject = 'a'\nrole = 'b'\nkeylen = 8", "conf.toml: auth.wampcra[0].keylen: Expected int >= 16"),
        ("[[auth.cryptosign]]\nsubject = 'a'\nrole = 'b'\nkeys = []", "conf.toml: auth.cryptosign[0].keys: Expected a list of"),
        ("[[auth.cryptosign]]\nsubject = 'a'\nrole = 'b'\nkeys = ['x']", "conf.toml: auth.cryptosign[0].keys: Expected str"),
        (SCRAM.replace("'pbkdf2'", "'md5'"), "conf.toml: auth.scram[0].kdf: Expected one of argon2id13, pbkdf2, got 'md5'"),
        (SCRAM.replace("salt = '00", "salt = '0"), "conf.toml: auth.scram[0].salt: Expected str matching"),
        (SCRAM.replace("stored_key = '0", "stored_key = '"), "conf.toml: auth.scram[0].stored_key: Expected str matching"),
        (SCRAM.replace("iterations = 1", "iterations = 0"), "conf.toml: auth.scram[0].iterations: Expected int >= 1, got 0"),
        ("[heartbeat", "conf.toml: "),
        ("a = 1\na = 2", "conf.toml: "),
    ],
)
def test_a_wrong_key_type_or_value_is_named_with_the_file_and_the_reason(content: str, text: str, loaded: Load) -> None:
    assert complaint(loaded, content).startswith(text)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"NEXUS_HEARTBEAT__INTERVAL": "-1"},
            "heartbeat.interval: Expected float > 0.0, got -1 (from NEXUS_HEARTBEAT__INTERVAL)",
        ),
        (
            {"NEXUS_HEARTBEAT__INTERVAL": "5 s"},
            "heartbeat.interval: Expected float, got '5 s' (from NEXUS_HEARTBEAT__INTERVAL)",
        ),
        (
            {"NEXUS_HEARTBEAT__INTERVAL": "5\nx = 1"},
            "heartbeat.interval: Expected float, got '5\\nx = 1' (from NEXUS_HEARTBEAT__INTERVAL)",
        ),
        ({"NEXUS_ECHO": "maybe"}, "echo: Expected bool, got 'maybe' (from NEXUS_ECHO)"),
        ({"NEXUS_FOO__BAR": "1"}, "foo: unknown key (from NEXUS_FOO__BAR)"),
        (
            {"NEXUS_LIMITS__MESSAGES": "1"},
            "limits.messages: unknown key (did you mean 'message'?) (from NEXUS_LIMITS__MESSAGES)",
        ),
        ({"NEXUS_LIMITS__RATE__X": "1"}, "limits.rate.x: unknown key (from NEXUS_LIMITS__RATE__X)"),
        ({"NEXUS_LIMITS": "5"}, "limits: Expected a table, got 5 (from NEXUS_LIMITS)"),
        ({"NEXUS_LIMITS": "{rate = -1}"}, "limits.rate: Expected int >= 0, got -1 (from NEXUS_LIMITS)"),
        ({"NEXUS_TOKN": "hunter2"}, "NEXUS_TOKN: unknown variable (did you mean 'NEXUS_TOKEN'?)"),
        ({"NEXUS_PORT": "8080"}, "NEXUS_PORT: unknown variable (did you mean 'PORT'?)"),
        ({"PORT": "http"}, "listen[0]: tcp:http: invalid literal"),
        (
            {"NEXUS_WORKERS": "2"},
            "workers: more than one need a bus that they share, and bus.url is memory: (from NEXUS_WORKERS)",
        ),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], text: str, loaded: Load) -> None:
    for content in (None, "drain = 1"):
        assert complaint(loaded, content, environ).startswith(text)
    assert "hunter2" not in complaint(loaded, None, environ)


def keys_with_a_section() -> list[str]:
    """Each key of the file that stands in a section, as its variable; of sections with names of the user's, one name."""
    names = []
    for section in fields(Settings):
        if get_origin(section.type) is dict:
            names += [f"NEXUS_{section.name}__WATCH_DOG__{each.name}".upper() for each in fields(get_args(section.type)[1])]
        elif isinstance(section.type, type(Settings)):
            keys = [each.name for each in fields(section.type) if get_origin(each.type) is not Annotated or not is_own(each)]
            names += [f"NEXUS_{section.name}__{key}".upper() for key in keys]
    return names


def is_own(field: FieldInfo) -> bool:
    """Whether the member is no key, but holds the tables of the section whose names are the user's."""
    return get_origin(get_args(field.type)[0]) is dict


@pytest.mark.parametrize("name", keys_with_a_section())
def test_a_variable_with_one_underscore_stops_the_start_for_every_key_with_a_section(name: str, loaded: Load) -> None:
    wrong = name.replace("__", "_")
    for spelt in (wrong, wrong.lower(), wrong.replace("NEXUS_", "NEXUS.").replace("_", "-").replace("NEXUS.", "NEXUS_")):
        assert complaint(loaded, None, {spelt: "1"}) == f"{spelt}: unknown variable (did you mean {name!r}?)"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NEXUS_BUS_URI", "NEXUS_BUS__URL"),
        ("NEXUS_HARTBEAT_INTERVAL", "NEXUS_HEARTBEAT__INTERVAL"),
        ("NEXUS_LIMITS_MESAGE", "NEXUS_LIMITS__MESSAGE"),
        ("NEXUS_ROLES_AGENT_SUBSCRIB", "NEXUS_ROLES__AGENT__SUBSCRIBE"),
        ("nexus_token", "NEXUS_TOKEN"),
        ("nexus_bus__url", "NEXUS_BUS__URL"),
    ],
)
def test_one_that_is_nearly_such_a_name_stops_the_start_too(name: str, meant: str, loaded: Load) -> None:
    assert complaint(loaded, None, {name: "hunter2"}) == f"{name}: unknown variable (did you mean {meant!r}?)"


def test_a_variable_that_looks_like_none_of_ours_is_somebody_elses(loaded: Load) -> None:
    assert loaded(environ={"NEXUS_HOME": "/opt/nexus", "NEXUS_REGISTRY": "x"}).settings == Settings()


def test_a_section_that_is_no_table_in_the_file_is_named_also_where_a_variable_sets_a_key_of_it(loaded: Load) -> None:
    assert complaint(loaded, "bus = 3", {"NEXUS_BUS": "memory:"}) == "conf.toml: bus: Expected a table, got 3"
    assert complaint(loaded, "roles = 3", {"NEXUS_ROLES__A__CALL": "b"}) == "conf.toml: roles: Expected a table, got 3"


def test_a_wrong_option_is_named(loaded: Load) -> None:
    assert complaint(loaded, workers="many") == "workers: Expected int, got 'many' (from --workers)"
    assert complaint(loaded, listen=["tcp:1", "3000"]) == "listen[1]: '3000' is no endpoint, such as tcp:3000 (from --listen)"


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\A/nowhere/conf\.toml: cannot be read: No such file or directory\Z"):
        load({"config": "/nowhere/conf.toml"}, {})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", "drain = 3".encode("utf-16")):
        (tmp_path / "conf.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"conf\.toml: is not UTF-8 \(byte 1\), as TOML must be\Z"):
            load({"config": str(tmp_path / "conf.toml")}, {})


def test_a_byte_order_mark_in_front_of_the_file_is_passed_over(loaded: Load) -> None:
    assert loaded("\ufeffdrain = 3").settings.drain == 3
    assert complaint(loaded, "\ufeff\ufeffdrain = 3").startswith("conf.toml: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[heartbeat]\ninterval = 60", "heartbeat.timeout: 60 s must be more than heartbeat.interval, 60 s"),
        ("workers = 2", "workers: more than one need a bus"),
        ("workers = 2\n[bus]\nurl = 'redis://h'\n[store]\nurl = 'sqlite::memory:'", "workers: more than one need a store"),
        ("[compression]\nenabled = true\n[limits]\nmessage = 0", "compression.enabled: needs limits.message"),
        ("echo = true\necho_message = 0\n[compression]\nenabled = true", "compression.enabled: needs limits.message (and echo"),
        ("listen = []", "listen: needs at least one endpoint"),
        ("listen = ['tcp']", "listen[0]: 'tcp' is no endpoint"),
        ("listen = ['tcp:1', 'tcp:x']", "listen[1]: tcp:x: "),
        ("listen = ['tcp:1:interfaces=x']", "listen[0]: tcp:1:interfaces=x: "),
        ("listen = ['ssl:443:privateKey=/nowhere/key']", "listen[0]: ssl:443:privateKey=/nowhere/key: "),
        ("listen = ['tls:443']", "listen[0]: tls:443 needs tls.certificate and tls.key"),
        ("listen = ['tls:x']\n[tls]\ncertificate = 'c'\nkey = 'k'", "listen[0]: tls:x: "),
        ("[http]\norigins = ['https://a.example', '']", "http.origins[1]: '' is not what an Origin can be"),
        ("[http]\norigins = [' https://a.example']", "http.origins[0]: "),
        ("[http]\norigins = ['https://ä.example']", "http.origins[0]: "),
        ("[http]\ntrusted_proxies = ['localhost']", "http.trusted_proxies[0]: "),
        ("[roles.agent]\ncall = ['a..b']", "roles.agent.call[0]: 'a..b' is neither"),
        (KEY.replace('"agent-1"', '"a\\nb"'), "auth.keys[0].subject: must be"),
        ("[history]\ncuont = 1", "history.cuont: unknown key (did you mean 'count'?)"),
        ("[history]\ncount = -1", "history.count: Expected int >= 0, got -1"),
        ("[history]\nage = 0", "history.age: Expected float > 0.0, got 0"),
        ("[history]\nbytes = 0", "history.bytes: Expected int >= 1, got 0"),
        ("[history]\ntotal = 1000", "history.bytes: 1048576 of one type is more than history.total, 1000"),
        ("[history.'task.**']\ncuont = 1", "history.\"task.**\".cuont: unknown key (did you mean 'count'?)"),
        ("[history.'task.**']\ntotal = 1", "history.\"task.**\".total: unknown key"),
        ("[history.task]\nage = 'x'", "history.task.age: Expected float, got 'x'"),
        ("[history.'a.*b']\ncount = 1", "history.\"a.*b\": 'a.*b' is neither an event type nor a pattern"),
        (
            "[history.'a.*']\nbytes = 268435457",
            "history.\"a.*\".bytes: 268435457 of one type is more than history.total, 268435456",
        ),
        ("[history.count]\nage = 1", "history.count: Expected int, got a table"),
        (KEY.replace('role = "agent"', 'role = "agnet"'), "auth.keys[0].role: no such role: 'agnet'"),
        (KEY + KEY.removeprefix("[roles.agent]\n"), "auth.keys[1].hash: this key is there already"),
        ("[[auth.certificates]]\nname = 'a'\nsubject = 'a'\nrole = 'admin'", "auth.certificates: need tls.client_ca"),
        ("[tls]\nclient_ca = 'x'\n[[auth.certificates]]\nname = 'a'\nsubject = 'a'\nrole = 'b'", "auth.certificates[0].role: "),
        (
            "[auth]\nplugins = ['x']\n[[auth.jwt]]\nissuer = 'i'\naudience = 'a'\nalgorithms = ['none']\nsecret = 's'",
            "auth.jwt[0].algorithms: ",
        ),
        (
            "[[auth.jwt]]\nissuer = 'i'\naudience = 'a'\nalgorithms = ['RS256']\nkey = '/nowhere'",
            "auth.jwt[0].key: cannot read /nowhere: ",
        ),
        ("[realms.ab]", "realms.ab: a realm's name is a letter, then"),
        ("[realms.'a b c']", "realms.\"a b c\": a realm's name is a letter, then"),
        ("[realms.'wamp.realm']", "realms.\"wamp.realm\": a realm's name is"),
        ("[realms.realm1]\nanonymous = 'guest'", "realms.realm1.anonymous: no such role: 'guest'"),
        (GUEST.replace("['realm1']", "['nexus']"), "realms.realm1.anonymous: 'guest' may not join: its realms do not"),
        (GUEST.replace("realms = ['realm1']", ""), "realms.realm1.anonymous: 'guest' may not join"),
        ("[roles.guest]\nrealms = ['nexus', 'realm1']", "roles.guest.realms[1]: no such realm: 'realm1'"),
        ("[realms.realm1]\nauthorizer = 'procedure:a..b'", "realms.realm1.authorizer: 'a..b' cannot name a procedure"),
        ("[realms.realm1]\nauthorizer = 'procedure:wamp.a'", "realms.realm1.authorizer: 'wamp.a' cannot name a procedure"),
        ("[[auth.wampcra]]\nsubject = '\u200b'\nrole = 'admin'\nsecret = 's'", "auth.wampcra[0].subject: must be"),
        ("[[auth.wampcra]]\nsubject = 'a'\nrole = 'b'\nsecret = 's'", "auth.wampcra[0].role: no such role: 'b'"),
        ("[[auth.wampcra]]\nsubject = 'a'\nrole = 'admin'", "auth.wampcra[0]: needs exactly one of secret and key"),
        (SCRAM.replace("'pbkdf2'", "'argon2id13'"), "auth.scram[0].memory: goes with argon2id13, which needs it"),
        (SCRAM + SCRAM.removeprefix("[roles.agent]\n"), "auth.scram[1].subject: is there already in the realm 'nexus'"),
        ("[[commands]]\nname = 'a.*'\nhandler = 'b:c'", "commands[0].name: 'a.*' cannot name a command"),
        ("[[commands]]\nname = 'nexus.a'\nhandler = 'b:c'", "commands[0].name: "),
        (
            "[[commands]]\nname = 'a'\nhandler = 'b:c'\n[[commands]]\nname = 'a'\nhandler = 'b:c'",
            "commands[1].name: 'a' is there already",
        ),
    ],
)
def test_what_does_not_go_together_or_cannot_be_used_is_named(content: str, text: str, loaded: Load) -> None:
    assert complaint(loaded, content).startswith(f"conf.toml: {text}")


def test_endpoints_that_are_fine_are_taken(loaded: Load, tmp_path: Path) -> None:
    certificate, key = issue().write(tmp_path, "site")
    listen = [
        "tcp:0:interface=127.0.0.1",
        "unix:/tmp/n.sock",
        "tls:443",
        "systemd:domain=INET:index=0",
        f"ssl:0:privateKey={key}:certKey={certificate}",
    ]
    content = f"listen = {listen!r}\n[tls]\ncertificate = '{certificate}'\nkey = '{key}'"
    assert loaded(content).settings.listen == tuple(listen)


def test_a_role_may_be_the_built_in_admin_or_one_of_that_name(loaded: Load) -> None:
    content = KEY.removeprefix("[roles.agent]\n").replace('role = "agent"', 'role = "admin"')
    assert loaded(content).settings.roles == {}
    assert loaded(f"[roles.admin]\n{content}").settings.roles["admin"] != ADMIN


def test_realms_their_anonymous_role_and_their_users_are_taken(loaded: Load) -> None:
    content = f"{GUEST}authorizer = 'procedure:com.example.authorize'\n{SCRAM}"
    settings = loaded(content + f"[[auth.cryptosign]]\nsubject = 'b'\nrole = 'guest'\nkeys = ['{HEX}']").settings
    assert list(settings.realms) == ["nexus", "realm1"]
    assert settings.realms["realm1"].authorizer == "procedure:com.example.authorize"
    assert settings.roles["guest"].realms == ("realm1",)
    assert settings.roles["agent"].realms == ("nexus",)
    assert (settings.auth.scram[0].subject, settings.auth.cryptosign[0].keys) == ("a", (HEX,))


def test_the_anonymous_role_may_be_the_built_in_one(loaded: Load) -> None:
    assert loaded("[realms.realm1]\nanonymous = 'admin'").settings.realms["realm1"].anonymous == "admin"


def test_users_of_wamp_and_anonymous_ones_are_reason_enough_to_make_no_token(loaded: Load) -> None:
    for content in (SCRAM, GUEST):
        configuration = loaded(content, NOBODY)
        assert (configuration.token, configuration.one_off) == (None, False)


def test_history_is_written_by_pattern_beside_what_holds_for_all(loaded: Load) -> None:
    content = "[history]\ncount = 5\n[history.'task.**']\ncount = 0\n[history.heartbeat]\nage = 10\n"
    history = loaded(content).settings.history
    assert (history.count, history.age) == (5, 300)
    assert {pattern: (kept.count, kept.age) for pattern, kept in history.patterns.items()} == {
        "task.**": (0, None),
        "heartbeat": (None, 10),
    }
    environ = {"NEXUS_HISTORY__TASK.**__COUNT": "3", "NEXUS_HISTORY__HEARTBEAT__BYTES": "9"}
    changed = loaded(content, environ).settings.history.patterns
    assert changed["task.**"].count == 3
    assert (changed["heartbeat"].age, changed["heartbeat"].bytes) == (10, 9)


# --- secrets ------------------------------------------------------------------------------------------------------------

SECRET_JWT = f"[[auth.jwt]]\nissuer = '{ISSUER}'\naudience = 'nexus'\nalgorithms = ['HS256']\nsecret = 'env:%s'\n"


@pytest.mark.parametrize("name", ["ISSUER_SECRET", "NEXUS_ISSUER_SECRET"])
def test_a_secret_may_come_from_a_variable_of_any_name(name: str, loaded: Load) -> None:
    configuration = loaded(SECRET_JWT % name, {name: "hunter2" * 6})
    assert configuration.settings.auth.jwt[0].secret == "hunter2" * 6
    assert "hunter2" not in repr(configuration)


def test_a_secret_whose_variable_is_not_set_or_too_short_is_named_and_not_shown(loaded: Load) -> None:
    assert complaint(loaded, SECRET_JWT % "X") == "conf.toml: auth.jwt[0].secret: the environment variable X is not set"
    text = complaint(loaded, SECRET_JWT % "X", {"X": "hunter2"})
    assert text.startswith("conf.toml: auth.jwt[0].secret: HS256 needs")
    assert "hunter2" not in text


@pytest.mark.parametrize("name", ["ANN_PASSWORD", "NEXUS_ANN_PASSWORD"])
def test_a_password_of_wamp_may_come_from_a_variable_of_any_name(name: str, loaded: Load) -> None:
    content = f"[roles.agent]\n[[auth.wampcra]]\nsubject = 'ann'\nrole = 'agent'\nsecret = 'env:{name}'\n"
    configuration = loaded(content, {name: "hunter2"})
    assert configuration.settings.auth.wampcra[0].secret == "hunter2"
    assert "hunter2" not in repr(configuration)
    text = f"conf.toml: auth.wampcra[0].secret: the environment variable {name} is not set"
    assert complaint(loaded, content) == text


def test_paths_are_relative_to_where_the_server_is_started(
    loaded: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "issuer.pem").write_bytes(pem(rsa_key()))
    content = "[[auth.jwt]]\nissuer = 'i'\naudience = 'a'\nalgorithms = ['RS256']\nkey = 'keys/issuer.pem'"
    assert "auth.jwt[0].key: cannot read keys/issuer.pem" in complaint(loaded, content)
    monkeypatch.chdir(tmp_path)
    assert loaded(content).settings.auth.jwt[0].key == "keys/issuer.pem"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_no_value_of_a_variable_does_anything_but_set_its_key_or_be_refused(text: str) -> None:
    """Property: over texts for keys of several kinds."""
    for name in (
        "NEXUS_LIMITS__RATE",
        "NEXUS_LIMITS",
        "NEXUS_HTTP__ORIGINS",
        "NEXUS_ROLES__A__CALL",
        "NEXUS_ECHO",
        "NEXUS_LISTEN",
    ):
        try:
            settings = load({}, {**GIVEN, name: text}).settings
        except ConfigError as error:
            blamed = str(error).endswith(f" (from {name})")
        else:
            blamed = settings.heartbeat == Settings().heartbeat
        assert blamed, name


# --- the examples -------------------------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """Return the example with its commented-out keys and tables in force."""
    return re.sub(r"^# (?=\[\[?[a-z_.\"*]+\]\]?\s*(?:$|#)|[a-z_]+ = )", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["development", "production", "cluster"])
def test_each_example_is_right(name: str, loaded: Load) -> None:
    content = (EXAMPLES / f"{name}.toml").read_text()
    configuration = loaded(content)
    assert not configuration.one_off
    assert configuration.settings != Settings()


def test_what_the_production_example_has_commented_out_is_right_as_well(loaded: Load) -> None:
    content = uncommented((EXAMPLES / "production.toml").read_text())
    settings = loaded(content, environ={"GATEWAY_001": "s3cret"}).settings
    assert settings.tls.certificate
    assert settings.history.patterns["log.**"].count == 0
    assert "plant" in settings.realms
    assert settings.auth.wampcra
    assert settings.auth.cryptosign
    assert settings.auth.keys
    assert settings.auth.jwt
    assert settings.auth.certificates
    assert settings.commands


def test_no_example_opens_a_door_by_itself() -> None:
    for path in sorted(EXAMPLES.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        if path.name == "wamp-suites.toml":  # its passwords are in other projects' tests: nobody from elsewhere may try them
            assert all(endpoint.endswith(":interface=127.0.0.1") for endpoint in content["listen"])
        else:
            assert "keys" not in content.get("auth", {}), path.name
            assert not any(realm.get("anonymous") for realm in content.get("realms", {}).values()), path.name
