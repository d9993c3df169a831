"""The test vectors of the WAMP specification, against the codecs: `python -m tests.protocols.wamp.vectors CHECKOUT`.

CHECKOUT is a clone of github.com/wamp-proto/wamp-proto. Of each sample under testsuite/singlemessage that has bytes in a
serializer that Nexus speaks: what clients send must be read with the attributes that the sample names, and every message,
taken apart and put together again, must be one of the sample's variants. The transparent payloads of an older dialect
(bytes in place of the arguments) must be refused.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from nexus_tw.model import serializers
from nexus_tw.model.serializers import CODECS, Codec, Violation
from nexus_tw.protocols.wamp.messages import AnyMessage
from nexus_tw.protocols.wamp.reading import READERS

CLIENTS = {kind.__struct_config__.tag for kind in AnyMessage.__args__}
# Where a payload begins, in the messages that may have one.
PAYLOADS = {3: 3, 8: 5, 16: 4, 36: 4, 48: 4, 50: 3, 68: 4, 70: 3}
NAMES = {"request_id": "request", "publication_id": "publication", "subscription_id": "subscription"}
NAMES |= {"registration_id": "registration"}


def attributes(codec: Codec, data: bytes) -> dict[str, Any]:
    """Return the content of a client's message by the names of its members, with options as they were sent."""
    message = READERS[codec.name](data)
    said: dict[str, Any] = {name: getattr(message, name) for name in message.__struct_fields__}
    for part in ("args", "kwargs"):
        if said.get(part) is not None:
            said[part] = codec.value(bytes(said[part]))
    if "options" in said:
        said["options"] = msgspec.to_builtins(said["options"])
    return said


def misread(expected: dict[str, Any], said: dict[str, Any]) -> list[str]:
    """Return the names of members that were read differently; options that Nexus does not know are ignored."""
    wrong = []
    for name, value in expected.items():
        member = NAMES.get(name, name)
        if name == "roles":
            found = said["details"]["roles"]
        elif name == "options":
            found = said["options"]
            value = {key: item for key, item in value.items() if key in found}
            found = {key: found[key] for key in value}
        elif name in ("message_type", "payload"):
            continue
        else:
            found = said[member]
        if found != value:
            wrong.append(name)
    return wrong


def rejoined(codec: Codec, data: bytes) -> bytes:
    elements = codec.value(data)
    begin = PAYLOADS.get(elements[0], len(elements))
    return codec.join(elements[:begin], *(codec.encode(part) for part in elements[begin:]))


def verdict(codec: Codec, data: bytes, variants: list[bytes], expected: dict[str, Any]) -> str:
    if rejoined(codec, data) not in variants:
        return "written differently"
    if expected["message_type"] not in CLIENTS:
        return "written alike"
    try:
        wrong = misread(expected, attributes(codec, data))
    except Violation as error:
        return "transparent payload refused" if expected.get("payload") else f"refused: {error}"
    return f"read differently: {', '.join(wrong)}" if wrong else "read and written alike"


def main(checkout: Path) -> int:
    counts: Counter[str] = Counter()
    for path in sorted((checkout / "testsuite" / "singlemessage").rglob("*.json")):
        for sample in json.loads(path.read_text())["samples"]:
            for name in serializers.CODECS:
                variants = [bytes.fromhex(each["bytes_hex"]) for each in sample.get("serializers", {}).get(name, [])]
                for data in variants:
                    found = verdict(CODECS[name], data, variants, sample["expected_attributes"])
                    counts[found] += 1
                    if not found.endswith(("alike", "payload refused")):
                        print(f"{path.name}, {name}, {sample['description']}: {found}")
    for found, count in sorted(counts.items()):
        print(f"{count:4} {found}")
    return sum(count for found, count in counts.items() if not found.endswith(("alike", "payload refused")))


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
