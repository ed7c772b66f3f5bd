"""What the minimal servers answer, and to whom, without a socket."""

import base64

import msgspec

from loadtest.baselines.small_chat import SmallChat
from protocol.bodies import DialogCreated, Posted, TimelineEvent
from protocol.codec import MSGPACK, ServerMessage
from protocol.command_rules import Command
from protocol.commands import Authenticate, Create, Heartbeat, History, Send, Sync
from protocol.dialog_types import DialogType
from protocol.events import CaughtUp, HeartbeatReply
from protocol.ids import created_dialog_id, direct_dialog_id, new_id
from protocol.replies import Acked, Authenticated, Done, Failed, Synced

DEVICE = new_id()


def token(name: str) -> str:
    claims = base64.urlsafe_b64encode(msgspec.json.encode({"sub": name})).rstrip(b"=").decode()
    return f"head.{claims}.signature"


def ask(chat: SmallChat[str], line: str, command: Command) -> tuple[list[ServerMessage | None], ServerMessage | None]:
    answer = chat.take(line, MSGPACK.encode(command))
    event = MSGPACK.decode_server(answer.event) if answer.event else None
    return [MSGPACK.decode_server(reply) for reply in answer.replies], event


def enter(chat: SmallChat[str], line: str, name: str, device: bytes = DEVICE) -> bytes:
    (authenticated,), _ = ask(chat, line, Authenticate(1, token(name), device))
    assert isinstance(authenticated, Authenticated)
    return authenticated.principal


def test_a_person_is_whom_the_token_names_on_every_connection() -> None:
    chat = SmallChat[str]()
    assert enter(chat, "one", "ann") == enter(chat, "two", "ann") != enter(chat, "three", "bo")
    assert enter(chat, "four", "a text that is no token")


def test_a_sync_is_caught_up_at_once() -> None:
    chat = SmallChat[str]()
    enter(chat, "one", "ann")
    (synced, caught_up), _ = ask(chat, "one", Sync(2, "some position"))
    assert synced == Synced(2, recovered=True)
    assert isinstance(caught_up, CaughtUp)


def test_a_heartbeat_is_answered_and_done_only_with_an_id() -> None:
    chat = SmallChat[str]()
    assert ask(chat, "one", Heartbeat(0))[0] == [HeartbeatReply()]
    assert ask(chat, "one", Heartbeat(3))[0] == [HeartbeatReply(), Done(3)]


def test_events_have_dense_numbers_and_reach_every_member_who_is_here() -> None:
    chat = SmallChat[str]()
    ann, bo, cy = (enter(chat, name, name) for name in ("ann", "bo", "cy"))
    (acked,), created = ask(chat, "ann", Create(4, 1, DialogType.GROUP, [bo, cy], "a room"))
    dialog = created_dialog_id(DEVICE, 1)
    assert isinstance(acked, Acked)
    assert (acked.dialog, acked.seq) == (dialog, 1)
    assert isinstance(created, TimelineEvent)
    assert isinstance(created.body, DialogCreated)
    chat.leave("bo")
    for number in (2, 3):
        answer = chat.take("cy", MSGPACK.encode(Send(5, dialog, number, b"hello")))
        event = MSGPACK.decode_server(answer.event)
        assert isinstance(event, TimelineEvent)
        assert isinstance(event.body, Posted)
        assert (event.dialog, event.seq, event.author, event.n) == (dialog, number, cy, number)
        assert event.body.payload == b"hello"
        assert answer.audience == {"ann", "cy"}
    assert enter(chat, "bo again", "bo") == bo
    assert chat.take("ann", MSGPACK.encode(Send(6, dialog, 4, b""))).audience == {"ann", "bo again", "cy"}
    assert ann not in (bo, cy)


def test_a_direct_dialog_exists_once() -> None:
    chat = SmallChat[str]()
    ann, bo = enter(chat, "ann", "ann"), enter(chat, "bo", "bo")
    dialog = direct_dialog_id(ann, bo)
    ask(chat, "ann", Create(1, 1, DialogType.DIRECT, [bo]))
    ask(chat, "ann", Send(2, dialog, 2, b""))
    (acked,), event = ask(chat, "bo", Create(1, 1, DialogType.DIRECT, [ann]))
    assert isinstance(acked, Acked)
    assert (acked.dialog, acked.seq) == (dialog, 2)
    assert event is None


def test_what_it_does_not_have_is_refused() -> None:
    chat = SmallChat[str]()
    ann, bo, _ = (enter(chat, name, name) for name in ("ann", "bo", "cy"))
    ask(chat, "ann", Create(1, 1, DialogType.DIRECT, [bo]))
    refused = [
        ask(chat, "cy", Send(1, direct_dialog_id(ann, bo), 2, b""))[0],
        ask(chat, "ann", Send(2, new_id(), 3, b""))[0],
        ask(chat, "ann", History(3, direct_dialog_id(ann, bo)))[0],
    ]
    assert [(reply.id, reply.code) for (reply,) in refused if isinstance(reply, Failed)] == [
        (1, "dialog_not_found"),
        (2, "dialog_not_found"),
        (3, "unknown_command"),
    ]
