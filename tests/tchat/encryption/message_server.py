"""A server of keys that also carries messages from device to device, and keeps a backup."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from protocol.command_rules import Command
from protocol.device_commands import BackupValue, ConfirmToDevice, PutBackup, ReadBackup, SendToDevice
from protocol.errors import ErrorCode
from protocol.events import FromDevice
from protocol.key_commands import AppendDeviceLog, ClaimKeys
from protocol.replies import BackupPage, ClaimedKey, ClaimedKeys, Done, Failed, Reply
from tests.tchat.encryption.key_server import KeyServer

PAGE = 2


@dataclass
class MessageServer(KeyServer):
    """`waiting` is what waits for each device; `sent` all that was ever sent; pages of the backup are short.

    With `log_is_full` nothing is added to the log today.
    """

    waiting: defaultdict[bytes, list[FromDevice]] = field(default_factory=lambda: defaultdict(list))
    sent: list[SendToDevice] = field(default_factory=list)
    backup: dict[bytes, BackupValue] = field(default_factory=dict)
    claimed: int = 0
    log_is_full: bool = False

    def answer(self, device: bytes, command: Command) -> Reply:
        if self.refusals:
            return self.refusals.pop(0)
        match command:
            case AppendDeviceLog() if self.log_is_full:
                return Failed(0, ErrorCode.DAILY_LIMIT, "the log has grown enough today")
            case SendToDevice():
                return self._send(device, command)
            case ConfirmToDevice(number=number):
                self.waiting[device] = [one for one in self.waiting[device] if one.number > number]
                return Done(0)
            case ClaimKeys(devices=devices):
                return self._claim(devices)
            case PutBackup(values=values):
                if self.log is None or device not in self.log.devices:
                    return Failed(0, ErrorCode.LOG_PASSED, "the device is not in the log")
                known = self.backup
                known |= {one.key: max(one, known.get(one.key, one), key=lambda each: each.version) for one in values}
                return Done(0)
            case ReadBackup(after=after, limit=limit):
                left = [self.backup[key] for key in sorted(self.backup) if after is None or key > after]
                return BackupPage(0, left[: min(limit, PAGE)], len(left) > PAGE)
            case _:
                return super().answer(device, command)

    def _send(self, device: bytes, command: SendToDevice) -> Reply:
        if all(command.message != before.message for before in self.sent):
            self.sent.append(command)
            for each in command.messages:
                number = sum(each.device in [to.device for to in one.messages] for one in self.sent)
                self.waiting[each.device].append(FromDevice(number, command.dialog, self.principal, device, each.body))
        return Done(0)

    def _claim(self, devices: list[bytes]) -> Reply:
        self.claimed += 1
        uploads = [(each, upload) for each in devices for upload in self.uploads[each]]
        return ClaimedKeys(
            0, [ClaimedKey(each, one.id, one.key) for each, upload in uploads for one in upload.one_time_keys[:1]]
        )
