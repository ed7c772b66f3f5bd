"""The loads `channel`, `mixed` and `slow` against a real server, small: each does what it says, and its checks hold."""

import asyncio
from collections.abc import Iterator

import pytest

from loadtest.own_server import UNBOUND, OwnServer, merge
from loadtest.run import Run
from loadtest.run_result import RunResult, Sample
from loadtest.scenario import AnyLoad, ChannelLoad, MixedLoad, Scenario, SlowLoad

POSITIONS_OFTEN = {"sessions": {"position_interval_s": 0.1, "outbox_bytes_max": 262_144}}

# In one process, so that there is one server.
pytestmark = pytest.mark.xdist_group("loadtest")


class Silent:
    """Nobody looks."""

    def phase(self, name: str, total_s: float | None) -> None:
        pass

    def show(self, sample: Sample) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with OwnServer(tmp_path_factory.mktemp("server"), merge(UNBOUND, POSITIONS_OFTEN)) as running:
        yield running


def perform(load: AnyLoad, server: OwnServer, *, people: int, workers: int = 1, seconds: float = 0.5) -> RunResult:
    scenario = Scenario("a test", people, load, seconds, warm_up_s=0.1, workers=workers, name="test")
    return asyncio.run(Run(scenario, server, Silent()).perform())


def test_a_channel_reaches_the_people_of_all_workers(server: OwnServer) -> None:
    result = perform(ChannelLoad(outstanding=2), server, people=9, workers=2)
    assert result.good, result.checks
    assert result.checks.expected >= 9 * result.acked > 0
    assert result.checks.received == result.checks.expected
    assert result.delivery is not None


def test_a_channel_with_a_rate_keeps_it(server: OwnServer) -> None:
    result = perform(ChannelLoad(rate=100.0), server, people=3, seconds=1.0)
    assert result.good, result.checks
    assert result.acked == pytest.approx(100, rel=0.3)


def test_visitors_and_those_who_reconnect_miss_nothing_of_a_channel(server: OwnServer) -> None:
    load = ChannelLoad(rate=50.0, joins_per_s=5.0, reconnects_per_s=20.0)
    result = perform(load, server, people=40, workers=2, seconds=1.0)
    assert result.good, result.checks
    assert result.connects > 5
    readers = 40 - 2 * 8  # of each worker eight are visitors
    head, of_warm_up = result.checks.expected / readers, 5
    assert head - result.acked - of_warm_up >= 1 + 3, "created, and at least three came or went before the last ack"


def test_a_day_of_a_messenger_has_messages_typing_receipts_history_and_reconnects(server: OwnServer) -> None:
    load = MixedLoad(think_s=0.1, direct_dialogs=3, groups=1, group_size=4, reconnect_part=0.2, history_part=0.2)
    before = server.read_metrics()
    result = perform(load, server, people=12, seconds=1.0)
    after = server.read_metrics()
    assert result.good, result.checks
    assert result.acked > 20
    assert result.connects > 5
    assert after["tchat_receipts_total"] > before["tchat_receipts_total"]


def test_a_slow_reader_falls_behind_and_still_gets_everything(server: OwnServer) -> None:
    load = SlowLoad(dialog_size=4, rate=100.0, payload_bytes=60_000, slow_part=0.25, pause_s=1.0)
    before = server.read_metrics()["tchat_catch_ups_total"]
    result = perform(load, server, people=4, seconds=1.5)
    assert result.good, result.checks
    caught_up = server.read_metrics()["tchat_catch_ups_total"] - before
    assert caught_up > 2 * result.people, "the syncs and the new dialog are one each"
