"""What this device shows of its keys: they are uploaded first of all, and one-time keys whenever few are left.

Invariants:

- What was prepared is offered again until the server has it; but not after the server has lost one-time keys: then it
  may have given some of them out already (`synced` says that it has none).
- A fallback key is replaced only after everything that waited at the server was heard: it may be written with it.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.command_rules import Command
from protocol.key_commands import NamedKey, UploadKeys
from protocol.replies import Failed, KeysUploaded, Reply, Synced
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_keys import ONE_TIME_KEYS, Upload
from tchat.crypto.people import People
from tchat.encryption.notices import KeysNotTaken


class KeyUploads:
    """The uploads of a device."""

    def __init__(self, machine: CryptoMachine, people: People, now_ms: Callable[[], int]) -> None:
        self._machine = machine
        self._people = people
        self._now_ms = now_ms
        self._held = 0
        self._fallback_used = False
        self._upload: Upload | None = None
        self._to_look = False
        self._shown = b""
        self._notices: list[KeysNotTaken] = []
        self.done = False
        """Whether the server has the keys of this device."""

    def synced(self, synced: Synced) -> None:
        """What the server has of this device, as catch-up begins."""
        if synced.one_time_keys == 0:
            self._machine.forget_offered()
        self._held, self._fallback_used = synced.one_time_keys, synced.fallback_used
        self.done = synced.key_generation == self._machine.generation
        self._upload, self._to_look = None, not self.done

    def renewed(self) -> None:
        """This device has made new keys."""
        self._held, self._fallback_used = 0, False
        self._upload, self._to_look, self._shown, self.done = None, True, b"", False

    def caught_up(self) -> None:
        """All that waited at the server was heard."""
        self._to_look = True

    def key_was_used(self) -> None:
        """Somebody has opened a channel to this device."""
        self._held = max(0, self._held - 1)
        self._to_look = self._to_look or self._held < ONE_TIME_KEYS // 2

    def show_again(self) -> None:
        """The identity of the person signs the keys of this device now."""
        self._to_look = self._to_look or self._keys() != self._shown

    def due(self) -> list[Command]:
        """The upload to send now, once."""
        if not self._to_look or self._upload is not None:
            return []
        self._to_look = False
        upload = self._machine.prepare_upload(self._held, self._now_ms(), fallback_used=self._fallback_used)
        keys = self._keys()
        if self.done and not (upload.one_time_keys or upload.fallback_keys or (self._shown and self._shown != keys)):
            return []
        self._upload = upload
        one_time = [NamedKey(key_id, key) for key_id, key in upload.one_time_keys.items()]
        fallback = next((NamedKey(key_id, key) for key_id, key in upload.fallback_keys.items()), None)
        return [UploadKeys(0, upload.generation, keys, one_time, fallback)]

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to an upload."""
        if not isinstance(command, UploadKeys) or self._upload is None or command.generation != self._upload.generation:
            return
        upload, self._upload = self._upload, None
        if isinstance(reply, KeysUploaded):
            self._machine.uploaded(upload)
            self.done, self._shown = True, command.device_keys
            self._held, self._fallback_used = reply.one_time_keys, reply.fallback_used
            self._to_look = self._keys() != self._shown
        elif isinstance(reply, Failed) and reply.temporary:
            self._to_look = True
        elif isinstance(reply, Failed):
            self._notices.append(KeysNotTaken(reply.message))

    def disconnected(self) -> None:
        """What was not answered is sent again after the next sync."""
        self._upload = None

    def take_notices(self) -> list[KeysNotTaken]:
        """What the person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _keys(self) -> bytes:
        identity = self._people.identity
        return self._machine.device_keys if identity is None else identity.sign_device(self._machine.device_keys)
