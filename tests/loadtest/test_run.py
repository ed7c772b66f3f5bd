"""Whole runs: with real workers, against a real server, and against one whose fan-out is broken."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from loadtest.issuer import Issuer
from loadtest.lean_client import LoadError
from loadtest.own_server import OwnServer
from loadtest.run import Run
from loadtest.run_result import RunResult, Sample
from loadtest.scenario import AnyLoad, IdleLoad, Scenario, StormLoad, TalkLoad, Threshold
from loadtest.target import RemoteServer, Target
from tests.loadtest.fake_server import FakeServer, FanOut, deliver

GROUP = TalkLoad(dialog_size=3, writers=2, payload_bytes=40)


class Told:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.samples: list[Sample] = []

    def phase(self, name: str, total_s: float | None) -> None:
        assert total_s is None or total_s > 0
        self.phases.append(name)

    def show(self, sample: Sample) -> None:
        self.samples.append(sample)


def scenario(load: AnyLoad, *, people: int = 6, workers: int = 1, **thresholds: Threshold) -> Scenario:
    return Scenario(
        "a test", people, load, seconds=0.3, warm_up_s=0.1, workers=workers, thresholds=thresholds, name="test"
    )


def perform(what: Scenario, target: Target, told: Told | None = None) -> RunResult:
    return asyncio.run(Run(what, target, told or Told()).perform())


def perform_on_fake(fan_out: FanOut) -> RunResult:
    async def within() -> RunResult:
        async with FakeServer(fan_out).running() as server:
            target = RemoteServer(f"http://127.0.0.1:{server.port}", Issuer())
            return await Run(scenario(GROUP), target, Told()).perform()

    return asyncio.run(within())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("server")) as running:
        yield running


# In one process, so that there is one server.
pytestmark = pytest.mark.xdist_group("loadtest")


@pytest.mark.parametrize(
    "load",
    [
        GROUP,
        TalkLoad(writers=2),
        TalkLoad(dialog_size=3, writers=3, rate=100.0),
    ],
    ids=["group", "direct", "paced"],
)
def test_messages_are_acked_and_all_their_deliveries_come(load: TalkLoad, server: OwnServer) -> None:
    result = perform(scenario(load, people=12, workers=2), server)
    assert result.good, result.checks
    assert (result.people, result.connected) == (12, 12)
    assert result.acked > 0
    assert result.checks.received == result.checks.expected
    assert result.checks.received >= load.dialog_size * result.acked  # of the warm-up, too
    assert 0 < result.delivered <= result.checks.received
    assert result.ack is not None
    assert result.delivery is not None
    assert 0 < result.delivery.p50_ms <= result.delivery.max_ms
    assert len(result.cpu.workers_s) == 2


def test_an_open_loop_keeps_its_rate(server: OwnServer) -> None:
    what = msgspec.structs.replace(scenario(TalkLoad(writers=2, rate=200.0), people=4), seconds=1.5)
    result = perform(what, server)
    assert result.acked == pytest.approx(300, rel=0.2)
    assert result.cpu.tchat_s + result.cpu.postgres_s > 0  # of a shorter run it may be less than a tick of the clock
    latencies = [(each.p50_ms, each.p99_ms) for each in result.samples if each.p50_ms and each.p99_ms]
    assert latencies
    assert all(half <= nearly_all for half, nearly_all in latencies)


@pytest.mark.parametrize("resume", [True, False])
def test_people_who_are_cut_off_come_back(server: OwnServer, resume: bool) -> None:
    storm = msgspec.structs.replace(scenario(StormLoad(dialogs=3, resume=resume), people=8), seconds=1.0)
    result = perform(storm, server)
    assert result.good, result.checks
    assert result.connect is not None
    assert result.connects == pytest.approx(result.connect.count, abs=2 * 8)  # under way at the begin, at the end


def test_the_connects_of_idle_people_are_measured_and_what_they_take(server: OwnServer) -> None:
    told = Told()
    result = perform(scenario(IdleLoad(), people=30, workers=2), server, told)
    assert result.good, result.checks
    assert (result.connected, result.connects) == (30, 26)
    assert result.connect is not None
    assert result.connect.count == 26
    assert result.bytes_per_session is not None
    assert "everybody is idle" in told.phases


def test_a_run_is_sampled_with_the_metrics_of_its_server(server: OwnServer) -> None:
    told = Told()
    result = perform(scenario(GROUP), server, told)
    assert result.samples
    assert result.samples[0].at_s < 0
    assert result.samples[0].metrics["tchat_connections"] >= 0
    assert result.samples[0].resident_bytes > 2**20
    assert len(told.samples) == len(result.samples)


def test_a_threshold_that_does_not_hold_makes_a_run_not_good(server: OwnServer) -> None:
    held, missed = Threshold(at_least=0.1), Threshold(at_most=0.0)
    result = perform(scenario(GROUP, acked_per_s=held, ack_p50_ms=missed), server)
    assert [(each.metric, each.held) for each in result.checked] == [("acked_per_s", True), ("ack_p50_ms", False)]
    assert (result.checks.failed, result.good) == (0, False)


def test_a_result_is_read_again_as_it_was_written(server: OwnServer) -> None:
    result = perform(scenario(GROUP), server)
    assert msgspec.json.decode(msgspec.json.encode(result), type=RunResult) == result


def test_a_fan_out_that_is_whole_is_good() -> None:
    result = perform_on_fake(deliver)
    assert result.good, result.checks
    assert result.acked > 10
    assert result.checks.received == result.checks.expected


def drop_fifth(_dialog: bytes, seq: int, event: bytes) -> list[bytes]:
    return [] if seq == 5 else [event]


def double_fifth(_dialog: bytes, seq: int, event: bytes) -> list[bytes]:
    return [event, event] if seq == 5 else [event]


class SwapFifth:
    """Two events in each other's place."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def __call__(self, dialog: bytes, seq: int, event: bytes) -> list[bytes]:
        if seq == 5:
            self.kept[dialog] = event
            return []
        return [event, self.kept[dialog]] if seq == 6 else [event]


@pytest.mark.parametrize(
    ("fan_out", "count"), [(drop_fifth, "lost"), (double_fifth, "doubled"), (SwapFifth(), "misordered")]
)
def test_a_broken_fan_out_fails_the_run(fan_out: FanOut, count: str) -> None:
    checks = perform_on_fake(fan_out).checks
    assert getattr(checks, count) == checks.failed == 2, checks  # one in each of two dialogs
    assert checks.first


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    with pytest.raises(LoadError, match="refused"):
        perform(scenario(GROUP), RemoteServer("http://127.0.0.1:9", Issuer()))


def test_a_server_that_was_killed_leaves_no_process(tmp_path: Path) -> None:
    with OwnServer(tmp_path) as server:
        others = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGKILL)
    assert others
    assert not [other for other in others if other.is_running()]


def test_an_own_server_takes_settings(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no_such_key"), OwnServer(tmp_path, {"server": {"no_such_key": 1}}):
        pass
