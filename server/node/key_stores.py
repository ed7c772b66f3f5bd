"""The stores of what devices encrypt with, which a node hands to its parts together, and the handlers over them."""

from __future__ import annotations

from dataclasses import dataclass

from server.clock import Clock
from server.config.settings import Config
from server.delivery.device_messages import DeviceMessageDelivery
from server.session.commands.backups import BackupHandlers
from server.session.commands.device_messages import DeviceMessageHandlers
from server.session.commands.reports import ReportHandlers
from server.session.commands.sealed_rosters import RosterHandlers
from server.session.commands.shares import ShareHandlers
from storage.archive import Archive
from storage.backups import Backups
from storage.device_keys import DeviceKeyStore
from storage.device_messages import DeviceMessageStore
from storage.rates import RateLimiter
from storage.reports import Reports
from storage.sealed_rosters import SealedRosters
from storage.shares import Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStores:
    """Keys of devices, shares of sessions, rosters of sealed dialogs, messages to devices, reports, backups."""

    device_keys: DeviceKeyStore
    shares: Shares
    rosters: SealedRosters
    device_messages: DeviceMessageStore
    reports: Reports
    backups: Backups

    def make_handlers(
        self,
        device_messages: DeviceMessageDelivery,
        archive: Archive | None,
        limiter: RateLimiter,
        config: Config,
        clock: Clock,
    ) -> list[object]:
        """The handlers of commands about shares, rosters, messages to devices, reports and the backup."""
        return [
            ShareHandlers(self.shares, clock),
            RosterHandlers(self.rosters),
            DeviceMessageHandlers(device_messages, limiter, config.limits, clock),
            ReportHandlers(self.reports, archive, limiter, config, clock),
            BackupHandlers(self.backups, config.limits, clock),
        ]
