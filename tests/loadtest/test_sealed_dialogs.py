"""Sealed dialogs of a load on a real server, which refuses what is not sealed, or sealed without keys."""

import asyncio
from pathlib import Path

import pytest

from loadtest.checking_client import ASK_ID, CheckingClient
from loadtest.crowd import Crowd
from loadtest.lean_client import LoadError
from loadtest.loads import settle_deliveries
from loadtest.own_server import OwnServer
from loadtest.pieces import Payload, PieceReader
from loadtest.sealed_dialogs import list_devices, share_sessions
from loadtest.tally import Tally
from protocol.commands import Send
from protocol.dialog_types import Mode

PAYLOAD = Payload(862)
PEOPLE = 4


async def converse(server: OwnServer) -> None:
    tally = Tally()
    pieces = PieceReader(PAYLOAD, shared=False)
    people = [CheckingClient(server.issuer.token(f"p{number}"), tally, pieces) for number in range(PEOPLE)]
    crowd = Crowd(server.address, 0, people)
    await crowd.connect_all(people)
    await list_devices(people)
    crowd.mode = Mode.SEALED
    await crowd.gather_pairs([(people[0], people[1])])
    await crowd.gather_groups(PEOPLE)
    await share_sessions(crowd, PAYLOAD.make(0))
    for client, dialog in crowd.members:
        client.post(dialog, PAYLOAD.make(1), 1)
    await settle_deliveries(crowd, tally)
    assert (tally.acked, tally.refused, tally.odd) == (2 + PEOPLE, 0, 0)
    for client, dialog in [*crowd.members][::2]:
        with pytest.raises(LoadError, match="sealed"):
            await client.ask(Send(ASK_ID, dialog, client.next_n(), PAYLOAD.make(2)))
    await crowd.disconnect()


def test_members_of_sealed_dialogs_write_what_the_server_accepts_only_as_sealed(tmp_path: Path) -> None:
    with OwnServer(tmp_path) as server:
        asyncio.run(converse(server))
