"""What every store of presence promises about where principals are connected."""

from __future__ import annotations

import pytest

from protocol.ids import new_id
from storage.bus import ConnectionKey, PresenceStore

pytestmark = pytest.mark.anyio


async def test_a_principal_is_where_its_connections_are(presence_store: PresenceStore) -> None:
    ann, bob, nobody = new_id(), new_id(), new_id()
    await presence_store.put([ConnectionKey(ann, 1, 1), ConnectionKey(ann, 2, 1), ConnectionKey(bob, 2, 2)])
    located = await presence_store.locate([bob, nobody, ann])
    assert [sorted(nodes) for nodes in located.nodes] == [[2], [], [1, 2]]


async def test_a_node_stays_until_the_last_connection_there_is_removed(presence_store: PresenceStore) -> None:
    ann = new_id()
    first, second = ConnectionKey(ann, 1, 1), ConnectionKey(ann, 1, 2)
    await presence_store.put([first, second])
    presence_store.remove([first])
    assert (await presence_store.locate([ann])).nodes == [[1]]
    presence_store.remove([second])
    assert (await presence_store.locate([ann])).nodes == [[]]


async def test_what_is_put_under_a_token_is_found_under_it(presence_store: PresenceStore) -> None:
    key = ConnectionKey(new_id(), 1, 1)
    token = await presence_store.read_token()
    assert token
    assert await presence_store.put([key]) == token
    assert await presence_store.put([key]) == token
    located = await presence_store.locate([key.principal])
    assert (located.nodes, located.token) == ([[1]], token)


async def test_nothing_is_asked_and_the_token_is_answered(presence_store: PresenceStore) -> None:
    token = await presence_store.read_token()
    assert await presence_store.put([]) == token
    located = await presence_store.locate([])
    assert (located.nodes, located.token) == ([], token)


async def test_the_room_of_a_dialog_is_looked_up_with_the_connections_of_people(presence_store: PresenceStore) -> None:
    ann, dialog = new_id(), new_id()
    first, again = ConnectionKey(dialog, 2, 1), ConnectionKey(dialog, 2, 2)
    await presence_store.put([ConnectionKey(ann, 1, 1), first, ConnectionKey(dialog, 3, 1)])
    located = await presence_store.locate([ann, dialog])
    assert [sorted(nodes) for nodes in located.nodes] == [[1], [2, 3]]
    await presence_store.put([again])
    presence_store.remove([first])  # which comes late
    assert sorted((await presence_store.locate([dialog])).nodes[0]) == [2, 3]
