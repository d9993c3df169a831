"""The table of harm, made from results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from bench.harm.registry import MIXED, ROWS, row
from bench.harm.runs import CPU, MEMORY, PING, Harm

BEGIN: Final = "<!-- figures of harm: python -m bench harm-report writes from here -->"
END: Final = "<!-- to here -->"

_harms: Final = msgspec.json.Decoder(Harm)


def read(path: Path) -> list[Harm]:
    """Return the rows of a file of results, one JSON object per line."""
    return [_harms.decode(line) for line in path.read_bytes().splitlines() if line]


def latest(harms: Iterable[Harm]) -> list[Harm]:
    """Return the last run of each row, in the order of the rows; drawn combinations are last."""
    found = {harm.row: harm for harm in harms}
    places = {name: place for place, name in enumerate(ROWS)}
    return sorted(found.values(), key=lambda harm: (places.get(harm.row, len(places)), harm.row))


def table(harms: Iterable[Harm]) -> str:
    """Return a Markdown table. Ratios are relative to the same amount of ordinary traffic, and to the bytes sent."""
    head = ["row", "who may", "what", "sent", "CPU", f"ratio (≤ {CPU:.0f})"]
    head += ["memory", f"ratio (≤ {MEMORY:.0f})", "stays", "remembered", "disk"]
    head += ["ping p50", f"p99 (< {PING:.0f} ms)", "others", "misses"]
    text = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for harm in harms:
        about = row(harm.row)
        cells = [f"`{harm.row}`", about.who, about.what, _size(harm.sent), f"{harm.cpu:.2f} s", f"{harm.cpu_ratio:.1f}"]
        size, what = about.kept
        cells += [_size(harm.grown), f"{harm.memory_ratio:.1f}", _size(harm.left)]
        cells += [f"≤ {_size(size)}, {what}" if size else "", _size(harm.disk)]
        cells += [f"{harm.ping_p50:.1f} ms", f"{harm.ping_p99:.1f} ms (before: {harm.calm_p99:.1f})"]
        cells += ["; ".join(harm.hurt).replace("|", "/") or "well", ", ".join(harm.misses)]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def fill(page: Path, harms: list[Harm]) -> None:
    """Write the table into a page, between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    machine = harms[-1].machine
    about = f"{machine.get('cores')} cores ({machine.get('cpu')}), Python {machine.get('python')}. {machine.get('time')}."
    page.write_text(f"{before}{BEGIN}\n\n{about}\n\n{table(latest(harms))}\n\n{END}{after}")


def rows() -> str:
    """Return the names and descriptions of the rows."""
    lines = [f"{name:15}{each.who}: {each.what}" for name, each in ROWS.items()]
    return "\n".join([*lines, f"{MIXED}-SEED     combinations drawn with that seed"])


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
