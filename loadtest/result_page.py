"""The result of a run as one page that needs nothing else: no script, font, picture or style from anywhere.

Every text of the result is escaped: a page may be made of a file that came from somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from loadtest.metric_meanings import MEANINGS, read_numbers
from loadtest.plots import as_svg, list_plots
from loadtest.result_table import CHECK_WORDS, bounds_of, list_failures
from loadtest.run_result import RunResult

_STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --panel: #f6f8fa; --edge: #d1d9e0;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --line-1: #0969da; --line-2: #bc4c00; --line-3: #1a7f37; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --panel: #151b23; --edge: #3d444d; --good: #3fb950;
    --bad: #f85149; --warn: #d29922; --line-1: #58a6ff; --line-2: #f0883e; --line-3: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
p { margin: .4rem 0; }
.soft, dt, th { color: var(--soft); font-weight: normal; }
.verdict { margin: 1rem 0; padding: .6rem .9rem; border-left: .3rem solid var(--good); background: var(--panel); }
.verdict.bad { border-color: var(--bad); }
.verdict.warn { border-color: var(--warn); }
.run { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; font-size: .93rem; }
.run dd { margin: 0; min-width: 0; }
.main { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.main div { padding: .6rem .8rem; border: 1px solid var(--edge); border-radius: .5rem; background: var(--panel); }
.main b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.main span { display: block; color: var(--soft); font-size: .85rem; line-height: 1.35; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; }
th, td { padding: .25rem 1.2rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--edge); }
td:last-child { min-width: 11rem; }
td.number { min-width: 0; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font: .9em ui-monospace, monospace; }
.bad td { color: var(--bad); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; padding: .7rem; border: 1px solid var(--edge); border-radius: .5rem; }
figcaption { margin-bottom: .3rem; font-weight: 600; font-size: .95rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif !important; }
"""

_MAIN = (
    "acked_per_s",
    "delivered_per_s",
    "connects_per_s",
    "acked_per_cpu_s",
    "delivered_per_cpu_s",
    "connects_per_cpu_s",
    "delivery_p50_ms",
    "delivery_p99_ms",
    "connect_p99_ms",
    "tchat_cores",
    "postgres_cores",
    "bytes_per_session",
)
"""The numbers at the top; all others stand in the table below."""

_LEFT_OUT_AT_0 = frozenset(CHECK_WORDS) - {"expected", "received", "lost", "doubled", "misordered"}


_PLOTS_NOTE = '<p class="soft">Seconds count from the end of the warm-up, which is grey.</p>'


def as_page(result: RunResult) -> str:
    """The page as HTML; raises `PlotError` where plots cannot be made."""
    parts = [
        _head(result),
        _verdict(result),
        _main_numbers(result),
        _section("Plots", f'{_PLOTS_NOTE}<div class="plots">{"".join(_figures(result))}</div>'),
        _section("Thresholds", _thresholds(result)) if result.checked else "",
        _section("What was received", _checks(result)),
        _section("All numbers", _all_numbers(result)),
    ]
    return _document(f"{result.scenario}: a load test of tchat", "\n".join(part for part in parts if part))


def _document(title: str, body: str) -> str:
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _head(result: RunResult) -> str:
    machine = result.machine
    server = "its own, on the same machine" if result.server == "embedded" else result.server
    run = {
        "began": result.started_at,
        "server": f"{server} (tchat {result.version})",
        "machine": f"{machine.processor}, {machine.cores} cores; {machine.system}; Python {machine.python}",
        "people": f"{result.people:,}, connected at the end {result.connected:,}",
        "measured": f"{result.seconds:,.1f} s, after the warm-up; workers: {len(result.cpu.workers_s)}",
    }
    described = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in run.items())
    return (
        f'<header><p class="soft">A load test of tchat</p><h1>{escape(result.scenario)}</h1>'
        f'<p>{escape(result.about)}</p><dl class="run">{described}</dl></header>'
    )


def _verdict(result: RunResult) -> str:
    boxes = [f'<p class="verdict bad"><b>Failed:</b> {escape(sentence)}</p>' for sentence in list_failures(result)]
    if result.good:
        boxes.append('<p class="verdict"><b>Good.</b> Every check and every threshold held.</p>')
    if result.bottleneck:
        boxes.append(f'<p class="verdict warn"><b>The load was the bottleneck:</b> {escape(result.bottleneck)}</p>')
    return "\n".join(boxes)


def _main_numbers(result: RunResult) -> str:
    numbers = read_numbers(result)
    cards = [
        f"<div><b>{escape(MEANINGS[name].as_text(numbers[name]))}</b><span>{escape(MEANINGS[name].words)}</span></div>"
        for name in _MAIN
        if name in numbers
    ]
    return f'<div class="main">{"".join(cards)}</div>'


def _figures(result: RunResult) -> Iterable[str]:
    for plot in list_plots(result):
        caption = escape(plot.title) + (f' <span class="soft">({escape(plot.unit)})</span>' if plot.unit else "")
        yield f"<figure><figcaption>{caption}</figcaption>{as_svg(plot)}</figure>"


def _thresholds(result: RunResult) -> str:
    rows = []
    for each in result.checked:
        meaning = MEANINGS.get(each.metric)
        value = meaning.as_text(each.value) if meaning else str(each.value)
        rows.append((each.held, (each.metric, value, bounds_of(each), "held" if each.held else "missed")))
    return _table(("number", "value", "threshold", ""), rows, numbers={1})


def _checks(result: RunResult) -> str:
    checks = result.checks
    rows = []
    for name, words in CHECK_WORDS.items():
        count = getattr(checks, name)
        if count or name not in _LEFT_OUT_AT_0:
            rows.append((name in {"expected", "received"} or not count, (words, f"{count:,}")))
    return _table(("", "count"), rows, numbers={1})


def _all_numbers(result: RunResult) -> str:
    rows = [
        (True, (name, MEANINGS[name].as_text(number), MEANINGS[name].words))
        for name, number in read_numbers(result).items()
    ]
    return _table(("name", "value", "meaning"), rows, numbers={1})


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(titles: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]], numbers: set[int]) -> str:
    """A table; each row begins with whether it is good."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = []
    for good, cells in rows:
        marked = [(' class="number"' if at in numbers else "", escape(cell)) for at, cell in enumerate(cells)]
        inside = "".join(f"<td{kind}>{cell}</td>" for kind, cell in marked)
        lines.append(f"<tr>{inside}</tr>" if good else f'<tr class="bad">{inside}</tr>')
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
