"""`python -m loadtest.money`: each row is measured, over HTTP with a service as a process."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from loadtest.money.__main__ import MoneyReport

_COMMAND = (sys.executable, "-m", "loadtest.money")


def test_pairs_are_counted_in_postgresql_and_over_http() -> None:
    sizes = ("--seconds", "0.1", "--rounds", "1", "--people", "20", "--rows", "shared,http")
    printed = subprocess.check_output([*_COMMAND, *sizes], timeout=120)
    report = msgspec.json.decode(printed, type=MoneyReport)
    assert set(report.pairs_per_s) == {"many shops", "one shop", "http 8", "http 24", "http 64"}
    assert all(report.pairs_per_s.values())
    assert report.shared_ratio == pytest.approx(
        report.pairs_per_s["one shop"] / report.pairs_per_s["many shops"], abs=0.01
    )
    assert all(each.request.count >= 2 for each in report.http.values())


def test_an_unknown_row_is_refused_with_the_names_of_those_there_are() -> None:
    done = subprocess.run([*_COMMAND, "--rows", "doubles"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no row doubles: there are singles, batches, shared, http" in done.stderr
