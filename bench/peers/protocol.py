"""The JSON protocol in its simplest form, for the peers; each server provides its own connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Any

Message = dict[str, Any]


class Client:
    """One connection, as seen by the protocol."""

    def __init__(self, connection: Any, send: Callable[[str], None]) -> None:
        self.connection = connection
        self._send = send
        self.filters: dict[str, list[dict[str, Any]]] = {}

    def reply(self, to: Message, **message: Any) -> None:
        if "id" in to:
            message["id"] = to["id"]
        self._send(json.dumps(message))

    def wants(self, event_type: str, data: Any) -> bool:
        return any(
            all(name in data and data[name] == value for name, value in filter_.items())
            for filter_ in self.filters.get(event_type, ())
        )


class Protocol:
    """All clients of a server. `broadcast` sends one text to many connections, in the best way of that server's library."""

    def __init__(self, broadcast: Callable[[Collection[Any], str], None]) -> None:
        self._broadcast = broadcast
        self._subscribers: dict[str, dict[Client, None]] = {}
        self._agents: dict[str, Client] = {}
        self._commands: dict[str, tuple[Client, Message]] = {}

    def joined(self, client: Client) -> None:
        client.reply({}, type="connected", clientId=f"client-{id(client)}", timestamp=_now())

    def left(self, client: Client) -> None:
        for subscribers in self._subscribers.values():
            subscribers.pop(client, None)

    def received(self, client: Client, text: str | bytes) -> None:
        message = json.loads(text)
        match message.get("type"):
            case "ping":
                client.reply(message, type="pong", timestamp=_now())
            case "subscribe":
                for event_type in message["events"]:
                    self._subscribers.setdefault(event_type, {})[client] = None
                    client.filters.setdefault(event_type, []).append(message.get("filters") or {})
                client.reply(message, type="subscribed", events=message["events"], timestamp=_now())
            case "publish":
                self._publish(message["eventType"], message["data"])
                client.reply(message, type="published", eventType=message["eventType"], timestamp=_now())
            case "telemetry":
                client.reply(message, type="telemetry_ack", timestamp=_now())
                data = {"agentId": message["agentId"], "metrics": message["metrics"], "timestamp": _now()}
                self._publish("telemetry.received", data)
            case "register":
                self._agents[message["agentId"]] = client
                client.reply(message, type="registered", commands=message["commands"], timestamp=_now())
            case "command":
                self._command(client, message)
            case "command_result":
                caller, command = self._commands.pop(message["commandId"])
                done = {"commandId": message["commandId"], "command": command["command"], "status": "executed"}
                done["result"] = message["data"]
                caller.reply(command, type="command_result", commandId=message["commandId"], status="success", data=done)
            case kind:
                client.reply(message, type="error", message=f"Unknown message type: {kind}", timestamp=_now())

    def _command(self, client: Client, message: Message) -> None:
        command_id = f"command-{id(message)}-{time.monotonic_ns()}"
        self._commands[command_id] = (client, message)
        order = {"command": message["command"], "parameters": message["parameters"]}
        self._agents[message["target"]].reply({}, type="command", commandId=command_id, **order)

    def _publish(self, event_type: str, data: Any) -> None:
        wanting = [client.connection for client in self._subscribers.get(event_type, ()) if client.wants(event_type, data)]
        if wanting:
            self._broadcast(wanting, json.dumps({"type": "event", "eventType": event_type, "data": data}))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
