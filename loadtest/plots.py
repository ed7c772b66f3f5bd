"""The plots of a run as SVG that stands in a page: no font, no link, and colours that the page chooses.

matplotlib draws them. It is an extra of the package, imported when a plot is wanted: see `PlotError`.
"""

from __future__ import annotations

import binascii
import importlib.util
import io
import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from loadtest.metric_meanings import LATENCIES
from loadtest.run_result import Percentiles, RunResult, Sample
from loadtest.sample_rates import all_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

_MIB = 1024 * 1024
_TICKS_PER_HALF = 5
"""Points of a curve between 0 and 50 %, 50 and 75 %, and so on: enough for a smooth line, few for a small page."""

_INK = "#010203"
_LINES = ("#010204", "#010205", "#010206")
_COLOURS = {_INK: "var(--ink)", **{colour: f"var(--line-{k})" for k, colour in enumerate(_LINES, 1)}}
"""matplotlib wants colours of its own; each of these stands for one of the page's, which differ in light and dark."""

_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.figsize": (5.0, 2.9),
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class PlotError(Exception):
    """No plots can be made; the text says what to do."""


class Line(msgspec.Struct, frozen=True):
    """One line of a plot: its name, and its points."""

    name: str
    x: list[float]
    y: list[float]


class Plot(msgspec.Struct, frozen=True):
    """One plot; with `nines` its x is 1 / (1 - the part of the values below y), on a logarithmic axis."""

    title: str
    unit: str
    lines: list[Line]
    nines: bool = False


def check_installed() -> None:
    """Raise `PlotError` if there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotError("A page needs matplotlib for its plots: pip install 'tchat[loadtest]'")


def list_plots(result: RunResult) -> list[Plot]:
    """The plots of which the run has the numbers."""
    samples = result.samples
    rates = all_rates(samples)
    at = [each.at_s for each in rates]
    used = [("tchat", "tchat_cores"), ("PostgreSQL", "postgres_cores"), ("busiest worker", "worker_cores")]
    plots = [
        Plot("Latency by percentile", "ms", _latency_lines(result), nines=True),
        Plot("Latency over time", "ms", _latency_over_time(samples)),
        Plot("Deliveries each second", "", [Line("delivered", at, [each.delivered_per_s for each in rates])]),
        Plot("Messages acked each second", "", [Line("acked", at, [each.acked_per_s for each in rates])]),
        Plot("CPU", "cores", [Line(name, at, [getattr(each, field) for each in rates]) for name, field in used]),
        Plot("Resident memory", "MiB", _memory_lines(samples)),
        Plot("Connections", "", [_over_time("connected", samples, [each.connected for each in samples])]),
    ]
    return [plot for plot in plots if any(any(line.y) for line in plot.lines)]


def as_svg(plot: Plot) -> str:
    """The plot as an `<svg>` element; raises `PlotError` without matplotlib."""
    check_installed()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**_STYLE, "svg.hashsalt": plot.title}):  # the salt makes ids, which plots of a page do not share
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        for line, colour in zip(plot.lines, _LINES, strict=False):
            axes.plot(line.x, line.y, color=colour, label=line.name)
        if plot.nines:
            _draw_nines(axes, plot)
        else:
            _draw_time(axes, plot)
        if len(plot.lines) > 1:
            figure.legend(loc="outside upper left", ncols=len(plot.lines), fontsize="small")
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata=_NO_METADATA)
    return _for_a_page(written.getvalue(), plot.title)


def _latency_lines(result: RunResult) -> list[Line]:
    found = [(name, getattr(result, name)) for name in LATENCIES]
    return [_by_percentile(name, latency) for name, latency in found if latency is not None and latency.histogram]


def _by_percentile(name: str, latency: Percentiles) -> Line:
    try:
        histogram = HdrHistogram.decode(latency.histogram)
    except (TypeError, HdrCookieException, HdrLengthException, binascii.Error, zlib.error) as error:
        raise PlotError(f"The histogram of {name} cannot be read: {error}") from None
    x, y = [], []
    for step in histogram.get_percentile_iterator(_TICKS_PER_HALF):
        below = min(step.percentile_level_iterated_to / 100, 1 - 1 / max(histogram.total_count, 2))
        x.append(1 / (1 - below))
        y.append(step.value_iterated_to / 1000)
    return Line(name, x, y)


def _latency_over_time(samples: Sequence[Sample]) -> list[Line]:
    timed = [each for each in samples if each.p50_ms is not None and each.p99_ms is not None]
    return [
        _over_time("99 % within", timed, [each.p99_ms or 0.0 for each in timed]),
        _over_time("half within", timed, [each.p50_ms or 0.0 for each in timed]),
    ]


def _memory_lines(samples: Sequence[Sample]) -> list[Line]:
    return [
        _over_time("tchat", samples, [each.resident_bytes / _MIB for each in samples]),
        _over_time("PostgreSQL", samples, [each.postgres_bytes / _MIB for each in samples]),
    ]


def _over_time(name: str, samples: Sequence[Sample], values: Sequence[float]) -> Line:
    return Line(name, [each.at_s for each in samples], list(values))


def _draw_nines(axes: Axes, plot: Plot) -> None:
    from matplotlib.ticker import LogLocator

    last = max(x for line in plot.lines for x in line.x)
    names = {2: "50 %", 10: "90 %", 100: "99 %", 1_000: "99.9 %", 10_000: "99.99 %", 100_000: "99.999 %"}
    ticks = [x for x in names if x <= last]
    axes.set_xscale("log")
    axes.set_yscale("log", subs=[])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xlim(1, last)
    axes.set_xticks(ticks, [names[x] for x in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")


def _draw_time(axes: Axes, plot: Plot) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.yaxis.set_major_formatter("{x:,g}")
    first = min(x for line in plot.lines for x in line.x)
    if first < 0:
        axes.axvspan(first, 0, color=_INK, alpha=0.06, linewidth=0)


def _for_a_page(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r' id="[a-z0-9.]+_[0-9]+"', "", svg)  # nothing refers to these, and each plot has them
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{title}">', svg, count=1)
    return re.sub("|".join(_COLOURS), lambda found: _COLOURS[found[0]], svg)
