"""Figures as ratios within one run.

Everything that is measured takes its turn in every round, A B A B …, so that what disturbs the machine disturbs both
sides of a ratio. A round gives one ratio; the figure is their median, with the least and the greatest beside it.
"""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn: operations/s, the median latency, and the CPU time of an operation in the service and in Postgres."""

    rate: float
    p50_ms: float | None = None
    python_us: float | None = None
    postgres_us: float | None = None

    @property
    def cpu_us(self) -> float:
        """All CPU time of an operation, the load generator's left out."""
        return (self.python_us or 0.0) + (self.postgres_us or 0.0)


Turn = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """`over` ÷ `under`, named as in the turns, of their rates. The target is a least or a greatest value."""

    name: str
    over: str
    under: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations/s of one turn, where the target is absolute."""

    name: str
    of: str
    at_least: float


@dataclass(slots=True)
class Part:
    """One chapter of the run: its turns, in the order in which neighbors are compared, and its figures."""

    title: str
    unit: str
    turns: Mapping[str, Turn]
    figures: Sequence[Ratio | Rate]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    async def run(self, rounds: int, console: Console) -> None:
        """Take all turns, `rounds` times."""
        self.samples = {name: [] for name in self.turns}
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(self.title, total=rounds * len(self.turns))
            for number in range(rounds):
                for name, turn in self.turns.items():
                    progress.update(task, description=f"{self.title}, round {number + 1}: {name}")
                    self.samples[name].append(await turn())
                    progress.advance(task)

    def print(self, console: Console) -> None:
        """Both tables."""
        console.print(self._ratios())
        console.print(self._rates())
        console.print()

    def _ratios(self) -> Table:
        table = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for name in ("figure", "median", "min … max", "target", "", "by CPU time"):
            table.add_column(name, justify="left" if name in {"figure", ""} else "right", no_wrap=True)
        for figure in self.figures:
            values = self._values(figure)
            median = statistics.median(values)
            table.add_row(
                figure.name, _number(median), f"{_number(min(values))} … {_number(max(values))}",
                *_judged(figure, median), self._by_cpu(figure),
            )  # fmt: skip
        return table

    def _rates(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD)
        heads = ("", f"{self.unit}/s", "min … max", "µs each", "p50 ms", "CPU µs: Python", "Postgres")
        for name in heads:
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        for name, samples in self.samples.items():
            rates = [sample.rate for sample in samples]
            rate = statistics.median(rates)
            table.add_row(
                name, f"{rate:,.0f}", f"{min(rates):,.0f} … {max(rates):,.0f}", f"{1e6 / rate:,.1f}",
                _median([sample.p50_ms for sample in samples], ".2f"),
                _median([sample.python_us for sample in samples], ",.1f"),
                _median([sample.postgres_us for sample in samples], ",.1f"),
            )  # fmt: skip
        return table

    def _values(self, figure: Ratio | Rate) -> list[float]:
        if isinstance(figure, Rate):
            return [sample.rate for sample in self.samples[figure.of]]
        pairs = zip(self.samples[figure.over], self.samples[figure.under], strict=True)
        return [over.rate / under.rate for over, under in pairs]

    def _by_cpu(self, figure: Ratio | Rate) -> str:
        if isinstance(figure, Rate):
            return ""
        pairs = list(zip(self.samples[figure.over], self.samples[figure.under], strict=True))
        if any((over.python_us is None) != (under.python_us is None) or not over.cpu_us for over, under in pairs):
            return ""
        return _number(statistics.median(under.cpu_us / over.cpu_us for over, under in pairs))


def _judged(figure: Ratio | Rate, median: float) -> tuple[str, str]:
    at_most = figure.at_most if isinstance(figure, Ratio) else None
    if figure.at_least is not None:
        target, met = f"≥ {_number(figure.at_least)}", median >= figure.at_least
    elif at_most is not None:
        target, met = f"≤ {_number(at_most)}", median <= at_most
    else:
        return "", ""
    return target, "[green]met[/]" if met else "[red]missed[/]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _median(values: Sequence[float | None], digits: str) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):{digits}}" if known else ""
