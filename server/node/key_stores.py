"""The stores of what devices encrypt with, which a node hands to its parts together."""

from __future__ import annotations

from dataclasses import dataclass

from storage.device_keys import DeviceKeyStore
from storage.device_messages import DeviceMessageStore
from storage.reports import Reports
from storage.sealed_rosters import SealedRosters
from storage.shares import Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStores:
    """Keys of devices, shares of sessions, rosters of sealed dialogs, messages from device to device; and reports."""

    device_keys: DeviceKeyStore
    shares: Shares
    rosters: SealedRosters
    device_messages: DeviceMessageStore
    reports: Reports
