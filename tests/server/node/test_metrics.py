"""Every metric that a node exports is in the catalogue, is named by the conventions, and has a value."""

from __future__ import annotations

import re

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from protocol.commands import Create, HighWaterMark, Receipt, Send, SignOut
from protocol.dialog_types import DialogType, Mode
from server.config.settings import ClusterSettings
from server.node.metrics import METRICS
from server.node.process_metrics import OF_THE_PROCESS
from server.node.prometheus import AnyDeclared, Counter, Durations, LabelledCounter
from tests.support.harness import Running, configured, running
from tests.support.turns import until

CATALOGUE: dict[str, AnyDeclared] = {each.name: each for _, declared in METRICS for each in declared}
BY_WHAT_HAPPENED = {
    "tchat_connections_closed_total",
    "tchat_connections_refused_total",
    "tchat_http_responses_total",
    "tchat_pipeline_verdicts_total",
}
"""Their labels are what has happened, so they have no value before it does."""
OF_PARTS_THAT_IT_LACKS = {name for name in CATALOGUE if name.startswith(("tchat_archive_", "tchat_cluster_"))}
"""Metrics of parts that a node of the test's configuration does not have."""


def read(running: Running) -> dict[str, float]:
    """By name, with the labels as in the text, the value of each sample."""
    text = generate_latest(running.node.metrics.registry).decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_no_name_is_used_twice() -> None:
    assert len(CATALOGUE) == sum(len(declared) for _, declared in METRICS)


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_follow_the_conventions(name: str) -> None:
    """Base units at the end, `_total` for counters and nothing else, lower case: Prometheus, "Metric naming"."""
    declared = CATALOGUE[name]
    assert re.fullmatch(r"tchat(_[a-z]+)+", name)
    assert name.endswith("_total") is isinstance(declared, Counter | LabelledCounter)
    assert name.endswith("_seconds") or not isinstance(declared, Durations)
    assert not re.search(r"_(ms|milliseconds|minutes|s|kb|mb)(_|$)", name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_help_of_every_metric_is_a_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Z1].*\.", CATALOGUE[name].meaning)


@pytest.mark.anyio
async def test_every_metric_has_a_value_on_a_node_that_serves(server: Running) -> None:
    exported = {re.sub(r"\[.*", "", name) for name in read(server)}
    expected = {f"{name}_count" if isinstance(it, Durations) else name for name, it in CATALOGUE.items()}
    assert exported >= expected - BY_WHAT_HAPPENED - OF_PARTS_THAT_IT_LACKS
    others = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported} - set(CATALOGUE)
    assert others == {name for name, *_ in OF_THE_PROCESS}


@pytest.mark.anyio
async def test_nodes_that_share_a_database_have_metrics_of_each_other(database_url: str) -> None:
    shared = configured(cluster=ClusterSettings(redis_urls=("redis://127.0.0.1:1",)))
    async with running(database_url, shared) as one, running(database_url, shared) as other:
        await until(lambda: read(one)["tchat_cluster_others"] >= 1)
        values = read(other)
        assert values["tchat_cluster_behind_seconds"] < 60
        assert {re.sub(r"\[.*", "", name) for name in values if name.startswith("tchat_cluster_")} == {
            name for name in CATALOGUE if name.startswith("tchat_cluster_")
        }


@pytest.mark.anyio
async def test_the_page_says_of_the_process_what_its_metrics_say(server: Running) -> None:
    text = generate_latest(server.node.metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, kind, meaning, _ in OF_THE_PROCESS:
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (kind, meaning)


@pytest.mark.anyio
async def test_what_a_conversation_does_is_counted(server: Running) -> None:
    ann, bo = await server.world.people(2)
    async with server.live(ann) as a, server.live(bo) as b:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        await a.ask(Send(4, dialog, 2, b"hello"))
        await a.ask(Send(5, dialog, 2, b"hello"))
        await b.ask(Receipt(6, HighWaterMark(dialog, 2, 2)))
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{server.node.port}/v1/nothing")
        during = read(server)
        assert (during["tchat_sessions"], during["tchat_connections"], during["tchat_rooms"]) == (2, 2, 1)
        await server.node.receipts.flush()
        await a.ask(SignOut(7))
        with pytest.raises(ConnectionClosed):
            await a.receive()
    await server.node.acceptor.wait_websockets_closed()
    await until(lambda: read(server)["tchat_catching_up"] == 0)
    after = read(server)
    assert after["tchat_commands_total[send]"] == 2
    assert after["tchat_pipeline_rows_total"] == 3
    assert after["tchat_pipeline_verdicts_total[duplicate]"] == 1
    assert after["tchat_pipeline_flush_seconds_count"] == after["tchat_pipeline_flushes_total"] == 3
    assert after["tchat_catch_ups_total[windowed]"] == 2
    assert after["tchat_receipts_total"] == 1
    assert after["tchat_http_responses_total[404]"] == 1
    assert after["tchat_connections_closed_total[4200]"] == 1
    assert after["tchat_connections_closed_total[0]"] == 1
    assert after["tchat_frames_total"] >= after["tchat_socket_writes_total"] > 0
    assert after["tchat_sessions"] == 0
