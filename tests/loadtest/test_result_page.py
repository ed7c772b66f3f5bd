"""The page of a run."""

import re
import sys
from html.parser import HTMLParser

import pytest

from loadtest.plots import PlotError, list_plots
from loadtest.result_page import as_page
from loadtest.run_result import CheckedThreshold, Checks, Machine, RunResult
from tests.loadtest.results import percentiles, result

HOSTILE = "<script>alert('x')</script>\"&"


class _Elements(HTMLParser):
    """What stands in a page: its elements, ids, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in {"src", "href", "xlink:href"}:
                self.links.append(value or "")


def page_of(run: RunResult) -> tuple[str, _Elements]:
    page = as_page(run)
    return page, _Elements(page)


def test_a_page_needs_nothing_else() -> None:
    page, elements = page_of(result())
    assert elements.names.isdisjoint({"script", "link", "img", "iframe", "object", "image"})
    assert all(link.startswith("#") for link in elements.links)
    assert not re.search(r"https?:|@import|@font-face", page)
    assert not re.search(r"url\((?!#)", page)


def test_what_parts_of_plots_refer_to_is_there_once() -> None:
    page, elements = page_of(result())
    assert len(set(elements.ids)) == len(elements.ids)
    assert {link[1:] for link in elements.links} | set(re.findall(r"url\(#(\w+)\)", page)) <= set(elements.ids)


def test_every_text_of_a_result_is_escaped() -> None:
    run = result(
        scenario=HOSTILE,
        about=HOSTILE,
        server=HOSTILE,
        version=HOSTILE,
        started_at=HOSTILE,
        machine=Machine(cores=1, processor=HOSTILE, system=HOSTILE, python=HOSTILE),
        checks=Checks(lost=1, first=HOSTILE),
        bottleneck=HOSTILE,
        checked=[CheckedThreshold(HOSTILE, None, at_most=1.0)],
    )
    page, elements = page_of(run)
    assert "script" not in elements.names
    assert page.count("&lt;script&gt;") >= 10


def test_a_page_says_what_failed_and_what_held_back_the_load() -> None:
    run = result(
        checks=Checks(expected=5, received=3, lost=2),
        bottleneck="a worker used 95 % of a core",
        checked=[CheckedThreshold("delivery_p99_ms", 40.0, at_most=5.0)],
    )
    page, _ = page_of(run)
    assert "2 lost." in page
    assert "delivery_p99_ms is 40.00 ms; the threshold is at most 5.00 ms." in page
    assert "95 % of a core" in page
    assert "Good." not in page
    assert "Good." in as_page(result())


def test_only_what_was_measured_is_plotted() -> None:
    assert [plot.title for plot in list_plots(result(samples=[]))] == ["Latency by percentile"]
    assert list_plots(result(samples=[], delivery=None)) == []
    assert "CPU" in [plot.title for plot in list_plots(result())]


def test_the_curve_of_percentiles_ends_at_the_slowest_of_all() -> None:
    plot, *_ = list_plots(result(delivery=percentiles(*range(1, 1001))))
    line = plot.lines[0]
    assert line.x == sorted(line.x)
    assert line.x[-1] == pytest.approx(1000)
    assert line.y[-1] == pytest.approx(1000, rel=0.002)
    assert line.y == pytest.approx([1000 * (1 - 1 / x) for x in line.x], abs=2)


def test_a_histogram_that_cannot_be_read_is_told() -> None:
    broken = percentiles(1.0).__class__(1, 1, 1, 1, 1, 1, histogram="rubbish")
    with pytest.raises(PlotError, match="histogram of delivery"):
        as_page(result(delivery=broken))


def test_without_matplotlib_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r"pip install 'tchat\[loadtest\]'"):
        as_page(result())
