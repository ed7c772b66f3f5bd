"""Opening balances from another system: a file of JSON lines, each posted once, however often it is imported.

A line is `{"owner": UUID, "currency": "THB", "amount_minor": 100000, "source": "wallet 17", "business": false}`.
`source` is its id where it comes from. The id of the transfer is derived from it, so a line that was posted does
nothing again, and with another owner, currency or amount it is refused. Wallets are opened as the service opens them.
"""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

from protocol.commerce.currencies import AmountMinor, Currency, as_decimal, is_known
from protocol.ids import NIL
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.step_keys import StepKeys
from server.commerce.wallet_keeping import WalletKeeping
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import CHAIN_LEGS_MAX, OpeningBalance, Purpose, StepKey, StepOutcome, account_id

_NAMESPACE = uuid.UUID("5f3a9f0e-6d0b-5c5e-9a51-0d8b7a0f6a11")
_SAID_EVERY = 10_000

Say: TypeAlias = Callable[[str], None]


class ImportedBalance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the file."""

    owner: UUID
    currency: Currency
    amount_minor: AmountMinor
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    business: bool = False


class BalanceImport:
    """Imports for one tenant; `say` gets lines for the person who imports."""

    def __init__(self, ledger: Ledger, wallets: WalletKeeping, keys: StepKeys, tenant: int, say: Say) -> None:
        self._ledger = ledger
        self._keys = keys
        self._wallets = wallets
        self._tenant = tenant
        self._say = say
        self.posted: Counter[str] = Counter()
        """What was posted now, by currency in minor units."""
        self.found: Counter[str] = Counter()
        """What had been posted before."""
        self.refused = 0

    async def run(self, lines: Iterable[bytes]) -> None:
        """Post what is new, in chunks."""
        done = 0
        numbered = ((number, read_line(line)) for number, line in enumerate(lines, 1) if line.strip())
        while chunk := list(itertools.islice(numbered, CHAIN_LEGS_MAX)):
            await self._post(chunk)
            done += len(chunk)
            if done % _SAID_EVERY == 0:
                self._say(f"{done} lines")
        for currency in sorted(self.posted | self.found):
            now, before = (as_decimal(total[currency], currency) for total in (self.posted, self.found))
            self._say(f"{currency}: {now} posted, {before} found posted before")
        self._say(f"{done} lines, {self.refused} refused")

    async def _post(self, chunk: Sequence[tuple[int, ImportedBalance]]) -> None:
        for _, line in chunk:
            await self._wallets.open_for(
                self._tenant, line.owner.bytes, line.currency, business=line.business, actor=NIL
            )
        answers = await self._ledger.import_balances(self._tenant, [self._opening(line) for _, line in chunk])
        for (number, line), (outcome, posted) in zip(chunk, answers, strict=True):
            if outcome is StepOutcome.DONE:
                (self.posted if posted else self.found)[line.currency] += line.amount_minor
            else:
                self.refused += 1
                reason = "was imported with other fields" if outcome is StepOutcome.KEY_REUSED else outcome.name.lower()
                self._say(f"line {number}: {line.source}: {reason}")

    def _opening(self, line: ImportedBalance) -> OpeningBalance:
        """The transfer of a line. Its id is the same for ever; its body has all that must be the same, too."""
        asked = KeyedRequest(Asker(tenant=self._tenant, principal=NIL), line.source)
        transfer = uuid.uuid5(_NAMESPACE, f"{self._tenant}/{line.source}").bytes
        return OpeningBalance(
            StepKey(transfer, self._keys.make(asked, "import", line).body),
            account_id(self._tenant, NIL, line.currency, Purpose.OPENING),
            account_id(self._tenant, line.owner.bytes, line.currency, Purpose.WALLET),
            line.amount_minor,
        )


def read_line(line: bytes) -> ImportedBalance:
    """A line of the file; raises ValueError (msgspec.ValidationError and DecodeError are some)."""
    read = msgspec.json.decode(line, type=ImportedBalance)
    if not is_known(read.currency):
        raise ValueError(f"{read.currency} is no currency of ISO 4217")
    return read
