"""What Prometheus is shown of the process."""

import os
import time
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from server.node import process_metrics
from server.node.process_metrics import ProcessMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessMetrics())
    return registry


def test_the_numbers_are_those_of_this_process(registry: CollectorRegistry) -> None:
    process = psutil.Process()
    assert registry.get_sample_value("process_start_time_seconds") == pytest.approx(process.create_time(), abs=1)
    assert registry.get_sample_value("process_cpu_seconds_total") == pytest.approx(time.process_time(), abs=1)
    assert registry.get_sample_value("process_resident_memory_bytes") == pytest.approx(
        process.memory_info().rss, rel=0.2
    )


def test_what_cannot_be_read_is_left_out(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: psutil.Process) -> float:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(psutil.Process, "create_time", refuse)
    assert registry.get_sample_value("process_start_time_seconds") is None
    assert registry.get_sample_value("process_open_fds")


def test_every_open_file_counts(registry: CollectorRegistry, tmp_path: Path) -> None:
    before = registry.get_sample_value("process_open_fds")
    assert before
    with (tmp_path / "one").open("w"), (tmp_path / "another").open("w"):
        assert registry.get_sample_value("process_open_fds") == before + 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux says the number without a list")
def test_open_files_are_not_listed_to_be_counted(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").stat().st_size:
        pytest.skip("a kernel older than Linux 6.2 says no number")
    monkeypatch.delattr(os, "listdir")
    assert registry.get_sample_value("process_open_fds")


def test_where_the_kernel_says_no_number_open_files_are_listed(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = registry.get_sample_value("process_open_fds")
    monkeypatch.setattr(process_metrics, "_OPEN_FILES", tmp_path / "nothing")
    assert registry.get_sample_value("process_open_fds") == pytest.approx(known, abs=1)  # the list itself is a file
