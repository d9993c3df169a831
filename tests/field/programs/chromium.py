"""JSON from a page in Chromium, which does not reconnect by itself; in cells that talk, the way is first tried with a page."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, react

from tests.e2e.chromium import Chromium, Pages
from tests.field.programs.cells import Cell, cells


def believed(certificates: str) -> str:
    """Return the browser's flag to trust these certificates, and no others with an unknown issuer."""
    digests = []
    for path in certificates.split(":"):
        key = x509.load_pem_x509_certificate(Path(path).read_bytes()).public_key()
        digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
        digests.append(base64.b64encode(digest).decode())
    return f"--ignore-certificate-errors-spki-list={','.join(digests)}"


async def page(tab: Any, cell: Cell) -> None:
    try:
        await tab.show(cell.url("http", "/health/live"))
        cell.say("page", text=await tab.evaluate("document.body.innerText"))
    except AssertionError as error:
        cell.say("failed", why=str(error))


async def browse(browser: Chromium, origin: str) -> None:
    browser.launch()
    tab = await browser.tab()
    for cell in cells():
        if cell.talks:
            await page(tab, cell)
    said = 0

    def print_new() -> None:
        nonlocal said
        for line in tab.console[said:]:
            print(line, flush=True)
            said += 1

    await tab.show(f"{origin}/page.html")
    LoopingCall(print_new).start(0.05)
    await tab.evaluate(f"openAll({json.dumps([vars(cell) for cell in cells()])})")
    await Deferred()


def main(clock: Any) -> Deferred[None]:
    directory = Path(tempfile.mkdtemp())
    pages = Pages(Path(__file__).parent, int(os.environ["FIELD_PAGES"]))
    browser = Chromium(directory, flags=[believed(os.environ["FIELD_CERTIFICATES"])])
    clock.addSystemEventTrigger("before", "shutdown", browser.discard)
    return ensureDeferred(browse(browser, pages.origin))


if __name__ == "__main__":
    react(main)
