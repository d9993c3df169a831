"""What a load has shown: figures, durations, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from nexus_client.cli.bench.histogram import Histogram
from nexus_client.cli.bench.plan import Plan
from nexus_client.cli.output import Output

BUSY: Final = 0.9  # of one core, from which on this program itself may be what is slow


@dataclass(frozen=True, slots=True)
class Result:
    """Figures by name, durations by what they are of, and faults, of which each count should be 0."""

    mode: str
    counts: dict[str, int]
    rates: dict[str, float]
    durations: dict[str, Histogram]
    faults: dict[str, int]
    good: str  # what there is to say if there are none
    error: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not any(self.faults.values())


def show(output: Output, result: Result, plan: Plan, processor: float, interrupted: bool) -> None:
    """Tell the result. `processor` is how much of one core this program used, from 0 to 1 and beyond."""
    verdict = "interrupted" if interrupted and result.passed else "passed" if result.passed else "failed"
    if output.json:
        record = {"type": "bench", "mode": result.mode, "verdict": verdict, "seconds": round(plan.seconds, 3)}
        figures = result.settings | result.counts | result.faults
        figures |= {name: round(rate, 1) for name, rate in result.rates.items()}
        figures |= {"processor": round(processor, 2)} | ({"error": result.error} if result.error else {})
        durations = {_key(name): each.milliseconds() for name, each in result.durations.items()}
        output.record(record | {_key(name): value for name, value in figures.items()} | {"milliseconds": durations})
    else:
        _table(output, result, plan)
        words = ", ".join(f"{count:,} {name}" for name, count in result.faults.items() if count)
        line = {"passed": result.good, "failed": words, "interrupted": "until then nothing was wrong"}[verdict]
        style = {"passed": "bold green", "failed": "bold red", "interrupted": "yellow"}[verdict]
        output.record({}, (f"{verdict}: {line}", style), (f"; the first error: {result.error}" if result.error else "", ""))
    if processor >= BUSY:
        output.note(
            f"this program used {processor:.0%} of a core, so these figures are its own limit rather than the server's; "
            "run several at once, or from several machines",
            "yellow",
            type="warning",
        )


def _key(name: str) -> str:
    """Return the name of a figure as JSON has it: `outOfOrder`, `storedPerSecond`."""
    first, *others = name.replace("/s", " per second").split()
    return first + "".join(each.capitalize() for each in others)


def _table(output: Output, result: Result, plan: Plan) -> None:
    figures = {"seconds": f"{plan.seconds:,.2f}"}
    figures |= {name: f"{count:,}" for name, count in (result.counts | result.faults).items()}
    figures |= {name: f"{rate:,.0f}" for name, rate in result.rates.items()}
    output.table(("what", "figure"), [{"what": name, "figure": f"{text:>12}"} for name, text in figures.items()])
    durations = [
        {"milliseconds": name} | {key: f"{value:>9,.2f}" for key, value in each.milliseconds().items()}
        for name, each in result.durations.items()
    ]
    output.table(tuple(durations[0]), durations)
