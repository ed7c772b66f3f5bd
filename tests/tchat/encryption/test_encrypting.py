"""The part that encrypts within the client's core: what the app gets, what leaves when, and older copies of a store."""

from __future__ import annotations

import itertools

from protocol.commands import AnyCommand, History, Send, Sync
from protocol.dialog_types import Mode
from protocol.events import CaughtUp
from protocol.key_commands import UploadKeys
from protocol.replies import HistoryPage, KeysUploaded, Synced
from tchat.actions import Answered, ConnectionState, Refused, Stop, StoreIsBehindError
from tchat.crypto.errors import Reason
from tchat.crypto.store_errors import StoreBehindError
from tchat.encryption.encrypting import Encryption
from tchat.encryption.notices import Unreadable
from tchat.memory_store import MemoryStore
from tchat.store import Stored
from tests.support.scripted import DIALOG, SECOND, Script, dialog_state, event_at
from tests.tchat.crypto.devices import NOW_MS


class Copied(MemoryStore):
    """A store that is an older copy, until it is retired."""

    def __init__(self) -> None:
        super().__init__(first_n=1)
        self.current = False

    def signed_in(self, n_max: int, generation: int) -> int:
        if not self.current:
            raise StoreBehindError
        return super().signed_in(n_max, generation)

    def retire(self, n_max: int, generation: int) -> list[Stored]:  # noqa: ARG002
        self.current = True
        return self.pending()


class Encrypting(Script):
    """A core whose store keeps keys."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore(first_n=1)
        super().__init__(self.store, encryption=Encryption(self.store, lambda: NOW_MS))

    def synced(self, *, n_max: int = 0, generation: int = 0) -> list[AnyCommand]:
        """Connect up to the catch-up; what is asked then."""
        self.authenticate()
        (command,) = [one for one in self.heard() if isinstance(one, Sync)]
        self.say(Synced(command.id, False, n_max, generation))
        return self.heard()


def test_keys_are_uploaded_as_soon_as_the_server_says_that_it_has_none() -> None:
    script = Encrypting()
    (upload,) = script.synced()
    assert isinstance(upload, UploadKeys)


def test_what_was_asked_is_asked_again_after_a_cut() -> None:
    script = Encrypting()
    (first,) = script.synced()
    script.cut()
    (again,) = script.synced()
    assert isinstance(first, UploadKeys)
    assert isinstance(again, UploadKeys)
    assert again.device_keys == first.device_keys


def test_an_answer_goes_to_who_asked_and_not_to_the_app() -> None:
    script = Encrypting()
    (upload,) = script.synced()
    script.notified()
    script.say(KeysUploaded(upload.id, 50, False))
    assert script.notified() == []


def test_the_app_gets_a_notice_in_place_of_what_is_not_believed() -> None:
    script = Encrypting()
    script.synced()
    script.say(dialog_state(mode=Mode.SEALED))
    script.notified()
    event = event_at(1)
    script.say(event)
    assert script.notified() == [Unreadable(event, Reason.UNSEALED)]


def test_a_page_has_no_content_that_is_not_believed_and_says_so() -> None:
    script = Encrypting()
    script.synced()
    script.say(dialog_state(mode=Mode.SEALED), CaughtUp("p"))
    handle = script.core.request(History(0, DIALOG), script.now)
    (asked,) = [command for command in script.heard() if isinstance(command, History)]
    script.notified()
    event = event_at(1)
    script.say(HistoryPage(asked.id, DIALOG, [event]))
    answered, notice = script.notified()
    assert isinstance(answered, Answered)
    assert answered.request == handle
    page = answered.reply
    assert isinstance(page, HistoryPage)
    assert page.events[0].body != event.body
    assert notice == Unreadable(event, Reason.UNSEALED)


def test_what_is_said_in_a_dialog_that_is_not_known_waits() -> None:
    script = Encrypting()
    script.core.submit(Send(0, DIALOG, 0, b"secret"), script.now)
    asked = script.synced()
    script.say(CaughtUp("p"))
    assert not any(isinstance(command, Send) for command in itertools.chain(asked, script.heard()))
    script.say(dialog_state(mode=Mode.OPEN))
    assert [command.payload for command in script.heard() if isinstance(command, Send)] == [b"secret"]


def test_an_older_copy_with_nothing_to_send_makes_new_keys() -> None:
    script = Encrypting(Copied())
    (upload,) = script.synced(n_max=70, generation=3)
    assert isinstance(upload, UploadKeys)
    assert upload.generation == 4


def test_an_older_copy_with_commands_stops_and_says_what_to_do() -> None:
    """They may have been sent by the newer store, under these or other numbers: only a person can say."""
    script = Encrypting(Copied())
    script.core.submit(Send(0, DIALOG, 0, b"again?"), script.now)
    assert script.synced(n_max=70, generation=3) == []
    (stop,) = [action for action in script.others if isinstance(action, Stop)]
    assert isinstance(stop.error, StoreIsBehindError)
    assert (stop.error.n_max, stop.error.generation) == (70, 3)
    assert script.core.state is ConnectionState.STOPPED


def test_a_client_without_keys_sends_nothing_into_a_sealed_dialog_and_shows_nothing_of_it() -> None:
    script = Script()
    script.live(dialog_state(mode=Mode.SEALED), dialog_state(dialog=SECOND, mode=Mode.OPEN))
    script.notified()
    script.core.submit(Send(0, DIALOG, 0, b"secret"), script.now)
    script.core.submit(Send(0, SECOND, 0, b"hello"), script.now)
    assert [command.payload for command in script.heard() if isinstance(command, Send)] == [b"hello"]
    refused, *_ = script.notified()
    assert isinstance(refused, Refused)
    assert "`SealedStore`" in refused.failed.message
    script.say(event_at(1))
    assert script.notified() == [Unreadable(event_at(1), Reason.NO_KEYS_KEPT)]
