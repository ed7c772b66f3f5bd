"""What an operator must look at although a node serves: `/readyz` says so, with 200."""

from __future__ import annotations

from collections.abc import Iterator

from server.cluster.hints import Hints
from server.cluster.peers import Peers
from server.writing.horizon import OLD_S, Horizon
from server.writing.mover import Mover
from server.writing.pipeline import Pipeline

ARCHIVE_LAG_MAX_S = 600.0
BEHIND_MAX_S = 15.0


def find_trouble(
    pipeline: Pipeline, horizon: Horizon, mover: Mover | None, peers: Peers | None, hints: Hints | None
) -> str:
    """It in a sentence; empty when there is nothing."""
    return "; ".join(_find(pipeline, horizon, mover, peers, hints))


def _find(
    pipeline: Pipeline, horizon: Horizon, mover: Mover | None, peers: Peers | None, hints: Hints | None
) -> Iterator[str]:
    if count := pipeline.set_aside:
        yield f"dialogs are set aside, because the database does not answer for them: {count}"
    if peers is not None and peers.behind_s > BEHIND_MAX_S:
        yield f"{peers.slowest or 'another node'} has not been heard for {peers.behind_s:.0f} s"
    if hints is not None and not hints.whereabouts.token:
        yield "Redis does not have this node's connections, so what other nodes write comes later, from PostgreSQL"
    if horizon.age_s > OLD_S:
        yield f"clients' positions are {horizon.age_s:.0f} s old"
    if mover is not None and mover.lag_s > ARCHIVE_LAG_MAX_S:
        yield f"the archive is {mover.lag_s:.0f} s behind"
