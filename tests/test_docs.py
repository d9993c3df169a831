"""The documents agree with the code."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import fields
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
import pytest
import pytest_twisted

from nexus_tw.app.tap import Options
from nexus_tw.model import errors
from nexus_tw.model.errors import ERRORS, Close
from nexus_tw.model.metrics import GAUGES, LABELS, Metrics
from nexus_tw.model.settings import Auth, Key, Role, Settings
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native import session as json_dialect
from nexus_tw.transport.http.api import NewEvent, PublishedEvent
from tests.client import greeted
from tests.node import nodes as nodes
from tests.test_layers import FLOORS

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
DECISIONS: Final = sorted((DOCS / "decisions").glob("*.md"))

CLIENT: Final = {str(kind.__struct_config__.tag): kind for kind in messages.ClientMessage.__subclasses__()}
SERVER: Final = {str(kind.__struct_config__.tag): kind for kind in messages.ServerMessage.__subclasses__()}
CLOSES: Final = [close for close in vars(errors).values() if isinstance(close, Close)] + [json_dialect.NOT_TEXT]

_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")
_CODE: Final = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def text_of(document: Path) -> str:
    return document.read_text("utf-8")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next one of its level or above."""
    lines = text.split("\n")
    start = lines.index(heading)
    level = len(heading) - len(heading.lstrip("#"))
    end = next(
        (place for place in range(start + 1, len(lines)) if re.match(rf"#{{1,{level}}} ", lines[place])), len(lines)
    )
    return "\n".join(lines[start + 1 : end])


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables' rows, including header rows."""
    found = [line.strip("|").split("|") for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in found]


def row(text: str, first: str) -> list[str]:
    """Return the only row whose first cell is this."""
    found = [cells for cells in rows(text) if cells[0] == first]
    assert len(found) == 1, f"{len(found)} rows for {first}"
    return found[0]


def examples(text: str) -> list[str]:
    return re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """Return the anchor of a heading in rendered Markdown."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


PROTOCOL: Final = text_of(DOCS / "protocol.md")
OPERATIONS: Final = text_of(DOCS / "operations.md")
ARCHITECTURE: Final = text_of(DOCS / "architecture.md")
README: Final = text_of(ROOT / "README.md")
FROM_CLIENTS: Final = section(PROTOCOL, "## What clients send")
FROM_SERVER: Final = section(PROTOCOL, "## What the server sends")


# --- messages


def subsections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each part under a heading of the third level, with the type that the heading names."""
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"`(\w+)`", part)
        assert match is not None, f"no type in the heading {part[:40]!r}"
        yield match[1], part


def test_every_message_from_clients_has_its_part_which_names_its_members() -> None:
    parts = dict(subsections(FROM_CLIENTS))
    assert parts.keys() == CLIENT.keys()
    for tag, kind in CLIENT.items():
        for field in msgspec.structs.fields(kind):
            assert field.name == "id" or f"`{field.encode_name}`" in parts[tag], f"{tag}: {field.encode_name}"


def test_every_message_from_the_server_has_its_part_and_its_members_stand_in_an_example() -> None:
    parts = dict(subsections(FROM_SERVER))
    assert parts.keys() == SERVER.keys()
    for tag, kind in SERVER.items():
        shown = {name for example in examples(parts[tag]) for name in json.loads(example)}
        for field in msgspec.structs.fields(kind):
            assert field.name == "id" or field.encode_name in shown, f"{tag}: {field.encode_name}"


@pytest.mark.parametrize("example", examples(FROM_CLIENTS))
def test_an_example_from_a_client_is_understood_by_the_session_with_all_its_members(example: str) -> None:
    message = json_dialect._decode(example)
    assert type(message) in json_dialect._HANDLERS
    taken = json.loads(msgspec.json.encode(message))
    for name, value in json.loads(example).items():
        assert taken.get(name) == value, f"{name} is no member of {taken['type']}"


@pytest.mark.parametrize("example", examples(FROM_SERVER))
def test_an_example_from_the_server_is_what_its_message_looks_like(example: str) -> None:
    written = json.loads(example)
    assert as_sent(SERVER[written["type"]], written) == written


def as_sent(kind: Any, written: dict[str, Any]) -> Any:
    """Return the example as the server would send it: without unknown members."""
    if kind is not messages.CommandResult:
        return json.loads(msgspec.json.encode(msgspec.json.decode(json.dumps(written), type=kind)))
    # Only ever sent: of its two kinds of data a decoder could not tell which one is meant.
    names = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    members = {names[name]: value for name, value in written.items() if name != "type"}
    if "data" in members:
        data_kind = messages.ExecutedByAll if "results" in members["data"] else messages.Executed
        members["data"] = msgspec.json.decode(json.dumps(members["data"]), type=data_kind)
    return json.loads(msgspec.json.encode(kind(**members)))


def test_examples_stand_in_the_part_of_their_message() -> None:
    for text in (FROM_CLIENTS, FROM_SERVER):
        for tag, part in subsections(text):
            found = [json.loads(example)["type"] for example in examples(part)]
            assert set(found) == {tag}, f"{tag}: {found}"


def test_examples_of_publishing_over_http_are_those_of_the_api() -> None:
    body, answer = examples(section(PROTOCOL, "### Publishing"))
    events = msgspec.json.decode(body, type=list[NewEvent])
    assert json.loads(msgspec.json.encode(events)) == json.loads(body)
    published = msgspec.json.decode(answer, type=dict[str, list[PublishedEvent]])
    assert json.loads(msgspec.json.encode(published)) == json.loads(answer)


# --- errors and closes


def test_the_table_of_errors_is_that_of_the_code() -> None:
    table = rows(section(PROTOCOL, "## Errors"))[2:]
    told = {cells[0].strip("`"): (cells[2], cells[3]) for cells in table}
    assert told == {code: ("yes" if kind.retryable else "no", str(kind.http)) for code, kind in ERRORS.items()}


def test_the_table_of_closes_is_that_of_the_code() -> None:
    table = [cells for cells in rows(section(PROTOCOL, "## Closing")) if len(cells) == 5][2:]
    told = {(int(code), reason.strip("`"), reconnect == "yes", int(delay)) for code, reason, reconnect, delay, _ in table}
    assert told == {close[:4] for close in CLOSES}, "what follows is for WAMP"


# --- settings


def keys(kind: Any = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of the file as the documents write it, with its default as TOML; `NODEFAULT` if it is required."""
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}"
        made = field.default_factory is not msgspec.NODEFAULT
        default = field.default_factory() if made else field.default
        if isinstance(default, msgspec.Struct):
            yield from keys(type(default), f"{name}.")
        elif get_origin(field.type) is Annotated and get_origin(get_args(field.type)[0]) is dict:
            # Tables of the section itself, whose names the user chooses.
            yield from keys(get_args(get_args(field.type)[0])[1], f"{prefix}NAME.")
        elif get_origin(field.type) is dict:
            yield from keys(get_args(field.type)[1], f"{name}.NAME.")
        else:
            yield name, default
            inner = get_args(field.type)[:1]
            if inner and isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct):
                yield from keys(inner[0], f"{name}[].")


def as_toml(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None:
        return "that of all"
    if isinstance(default, tuple):
        return f"`{json.dumps(list(default))}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{json.dumps(default)}`"


@pytest.mark.parametrize(("key", "default"), list(keys()))
def test_every_key_of_the_configuration_is_explained_with_its_default(key: str, default: Any) -> None:
    cells = row(section(OPERATIONS, "## Configuration"), f"`{key}`")
    assert cells[2] == as_toml(default)
    assert cells[1]
    assert cells[3]


def test_no_key_is_explained_that_does_not_exist() -> None:
    told = {cells[0].strip("`") for cells in rows(section(OPERATIONS, "## Configuration")) if cells[0].startswith("`")}
    assert told == dict(keys()).keys()


def test_every_limit_is_said_to_show_in_some_way_when_it_bites() -> None:
    table = section(OPERATIONS, "## Limits")
    for name in Settings().limits.__struct_fields__:
        assert f"`limits.{name}`" in table


def test_the_options_in_the_readme_are_those_of_twistd_nexus() -> None:
    told = {match[1] for cells in rows(README) if (match := re.match(r"`--(\w+)", cells[0]))}
    known = {option.rstrip("=") for option in Options().longOpt}
    assert told == known - {"help", "version"}


def test_defaults_in_the_readme_are_those_of_the_settings() -> None:
    defaults = {cells[1].strip("`"): cells[3].strip("`") for cells in rows(section(README, "## Options"))[2:] if cells[1]}
    settings = Settings()
    assert defaults == {
        "listen": settings.listen[0],
        "bus.url": settings.bus.url,
        "store.url": settings.store.url,
        "workers": str(settings.workers),
        "echo": "on" if settings.echo else "off",
    }


# --- one whole conversation


def told_apart_by_time(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message without the members that differ each time."""
    return {name: value for name, value in message.items() if name not in ("timestamp", "clientId", "deadline")}


@pytest_twisted.ensureDeferred
async def test_the_whole_conversation_from_upgrade_to_close_is_what_happens(nodes: Any) -> None:
    keys = tuple(
        Key(subject, role, f"sha256:{sha256(f'{subject}-token'.encode()).hexdigest()}")
        for subject, role in (("agent-001", "agent"), ("alice", "operator"))
    )
    roles = {"agent": Role(register=("*",), telemetry=("{subject}",)), "operator": Role(call=("**",))}
    node = await nodes(Settings(roles=roles, auth=Auth(keys=keys)))
    told, ending = re.findall(r"^```text\n(.*?)^```$", section(PROTOCOL, "### One whole conversation"), re.S | re.M)
    request = "".join(f"{line.removeprefix('> ')}\r\n" for line in told.split("\n\n")[0].split("\n")) + "\r\n"
    alice = await node.client("alice-token")
    wire = await node.wire(request.replace("TOKEN", "agent-001-token").encode())
    agent = await greeted(wire)
    assert f"< Sec-WebSocket-Accept: {agent.response.headers['sec-websocket-accept']}\n" in told
    said = [(line[0], json.loads(line[2:])) for line in told.split("\n") if line[2:].startswith("{")]
    assert told_apart_by_time(said.pop(0)[1]) == told_apart_by_time(agent.welcome)
    for who, message in said:
        if who == ">":
            agent.send(**message)
        elif message["type"] == "command":
            members = {name: message[name] for name in ("command", "commandId", "parameters")}
            alice.send(type="command", target="agent-001", **members)
            assert told_apart_by_time(await agent.receive()) == told_apart_by_time(message)
        elif message != {"type": "ping"}:
            assert told_apart_by_time(await agent.receive()) == told_apart_by_time(message)
    assert (await alice.expect("command_progress"))["data"] == {"percent": 40}
    assert (await alice.expect("command_result"))["data"]["result"] == {"done": True}
    agent.leave(1000)
    assert await agent.closed() == (1000, "")
    farewell = json.loads(ending.split("\n")[0].removeprefix("< "))
    assert farewell == json.loads(msgspec.json.encode(as_sent(messages.Disconnect, farewell)))
    assert (farewell["code"], farewell["reason"]) == errors.SHUTTING_DOWN[:2]


# --- metrics


@pytest_twisted.ensureDeferred
async def test_the_metrics_explained_are_those_that_a_node_shows(nodes: Any) -> None:
    node = await nodes()
    shown = (await node.http("GET", "/metrics")).body.decode()
    families = set(re.findall(r"^# TYPE (nexus_\w+)", shown, re.MULTILINE))
    table = rows(section(OPERATIONS, "## Metrics"))[2:]
    told = {cells[0].strip("`"): cells for cells in table}
    assert told.keys() == families
    assert all(len(told[f"nexus_{gauge}"]) == 3 for gauge in GAUGES)
    for counter in (field for field in fields(Metrics) if field.name not in GAUGES):
        label, values = LABELS.get(counter.name, ("", ()))
        name, labels, meaning = told[f"nexus_{counter.name}_total"]
        assert labels == (f"`{label}`" if label else ""), name
        if counter.name not in ("errors", "connections_closed", "refusals"):  # of these protocol.md has the tables
            assert all(f"`{value}`" in meaning for value in values), name
    assert all(cells[-1] for cells in table)


# --- the house


def test_the_floors_told_are_those_that_hold() -> None:
    table = {cells[0]: cells[2] for cells in rows(section(ARCHITECTURE, "## Floors")) if cells[0].isdigit()}
    assert {int(number): set(re.findall(r"`(\w+)`", names)) for number, names in table.items()} == {
        number: set(names.split()) for number, names in FLOORS.items()
    }


def test_the_files_that_the_architecture_names_are_there() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", ARCHITECTURE))
    assert len(named) > 50
    missing = {name for name in named if not (ROOT / name).exists() and not (ROOT / "nexus_tw" / name).exists()}
    assert not missing


def test_every_room_has_its_row_in_the_architecture() -> None:
    told = {room for cells in rows(section(ARCHITECTURE, "## Floors")) if not cells[0].isdigit() for room in _rooms(cells[0])}
    assert set(" ".join(FLOORS.values()).split()) <= told


def _rooms(cell: str) -> list[str]:
    return re.findall(r"`(\w+)(?:/\w+)?`", cell)


def test_decisions_are_numbered_without_a_gap_and_all_are_listed() -> None:
    for number, decision in enumerate(DECISIONS, 1):
        text = text_of(decision)
        title = text.split("\n")[0]
        assert decision.name.startswith(f"{number:04}-")
        assert title.startswith(f"# {number:04}: ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Question", "Choice", "Rejected"]
        assert f"* [{title[2:]}](decisions/{decision.name})" in ARCHITECTURE


def test_every_page_is_linked_from_the_readme() -> None:
    pages = {name_of(page) for page in DOCS.glob("*.md")}
    assert pages <= set(_LINK.findall(README))


def test_the_picture_shows_commands_of_the_tour() -> None:
    shown = [unescape(text).replace("\xa0", " ") for text in re.findall(r">\$&#160;([^<]*)<", text_of(DOCS / "tour.svg"))]
    assert len(shown) > 1
    assert all(f"{command}\n" in README for command in shown)


def test_the_code_on_embedding_is_that_of_the_example() -> None:
    example = "".join(path.read_text() for path in sorted((ROOT / "examples" / "twisted_app").glob("*.*")))
    blocks = re.findall(r"^```python\n(.*?)^```$", text_of(DOCS / "embedding.md"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        # A page may leave lines of the file out between two others, but none that stand in the block differ.
        assert all(line in example for line in block.split("\n\n"))


def test_the_dependencies_in_the_readme_are_those_that_are_installed() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split("\n")
    installed = {re.split(r"[\[ ]", line)[0] for line in lines if line and not line.startswith("#")}
    client = tomllib.loads(text_of(ROOT / "clients" / "python" / "pyproject.toml"))["project"]
    lines = [*client["dependencies"], *client["optional-dependencies"]["cli"]]
    installed |= {re.split(r"[\[ ]", line)[0] for line in lines}
    told = {name.strip() for cells in rows(section(README, "## Dependencies"))[2:] for name in cells[0].split(",")}
    assert told == installed


# --- all documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    for target in _LINK.findall(_CODE.sub("", text_of(document))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(each) for each in re.findall(r"^#+ (.*)$", text_of(file), re.MULTILINE)}, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_is_unfinished(document: Path) -> None:
    assert not re.search(r"\b(?:TODO|FIXME|XXX|TBD|WIP)\b", text_of(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_examples_in_json_and_toml_can_be_read(document: Path) -> None:
    text = text_of(document)
    for example in examples(text):
        json.loads(example)
    for example in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        tomllib.loads(example)
