"""`tchat commerce reconcile`: what the chat was told that restored books do not know, and the operator's decision."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from server.commerce.history_watch import as_time
from storage.commerce.restored_books import ALL_READ, Acceptance, BooksState, RestoredBooks, ToldPayment
from storage.commerce.schema import MONEY_SCHEMA
from storage.postgres.migrate import migrate

_STATEMENT_TIMEOUT_S = 30.0
_IDS_SHOWN = 100


@dataclass
class _Family:
    """Payments that differ in the same way: how many, how much in each currency, and the first of them."""

    count: int = 0
    amounts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def add(self, told: ToldPayment) -> None:
        self.count += 1
        if told.currency is not None:
            self.amounts[told.currency] += told.amount or 0
        if len(self.lines) < _IDS_SHOWN:
            self.lines.append(_line(told))


async def reconcile(url: str, *, synchronous: bool, accept: Acceptance | None, show: Callable[[str], None]) -> bool:
    """Show how the books at `url` stand; with `accept` let them serve again. Whether they serve."""
    await migrate(url, schema=MONEY_SCHEMA)  # a dump brings no grants
    books = await RestoredBooks.open(url, statement_timeout_s=_STATEMENT_TIMEOUT_S)
    try:
        state = await books.settle(synchronous=synchronous)
        if state.noticed_us is None:
            show("The books serve: nothing is to be reconciled.")
            return True
        state = await books.read((accept or ALL_READ).tenants)
        await _show(books, state, show)
        if accept is None:
            show("Nothing is changed. `tchat commerce reconcile --accept` lets the books serve as they are.")
            return False
        if not await books.accept(f"user {getpass.getuser()}", accept):
            for line in _missing(await books.read(accept.tenants)):
                show(line)
            show("Not accepted yet: run this again when nothing is missing.")
            return False
        show("Accepted: the books serve again, and the relay announces what differs.")
        return True
    finally:
        await books.aclose()


async def _show(books: RestoredBooks, state: BooksState, show: Callable[[str], None]) -> None:
    show(f"The books are read-only: another history was noticed at {as_time(state.noticed_us)}.")
    show(f"The newest thing that they know is of {as_time(state.known_us)}.")
    behind, lost, nameless = _Family(), _Family(), _Family()
    async for told in books.list_open():
        if told.version is not None and told.version < told.told_version:
            behind.add(told)
        elif told.version is None:
            (nameless if told.currency is None else lost).add(told)
    _show_family("Payments that the books know in an earlier state: it is announced again as it is here", behind, show)
    _show_family("Payments that the books do not know: they are booked as cancelled, and move nothing", lost, show)
    _show_family(
        "Payments of sealed dialogs that the books do not know, and of which no more is known: nothing is announced",
        nameless,
        show,
    )
    for line in _missing(state):
        show(line)


def _missing(state: BooksState) -> list[str]:
    return [
        *(
            f"Missing: what the chat was told is not read back for tenant {tenant}; `tchat relay` does it. "
            f"If it never will, say --without-tenant {tenant}."
            for tenant in state.unread
        ),
        *(
            f"Missing: what the gateway {name} has done since is not read; `tchat commerce` does it after --accept. "
            f"If it is configured no more, say --without-gateway {name}."
            for name in state.behind
        ),
    ]


def _show_family(title: str, family: _Family, show: Callable[[str], None]) -> None:
    amounts = ", ".join(f"{amount} {currency}" for currency, amount in sorted(family.amounts.items()))
    show(f"{title}: {family.count}" + (f" ({amounts}, in minor units)" if amounts else ""))
    for line in family.lines:
        show(f"  {line}")
    if family.count > len(family.lines):
        show(f"  and {family.count - len(family.lines)} more")


def _line(told: ToldPayment) -> str:
    state = "" if told.told_state is None else f" {told.told_state.text}"
    amount = "" if told.currency is None else f" {told.amount} {told.currency}"
    here = "unknown" if told.version is None or told.state is None else f"version {told.version} {told.state.text}"
    return f"{UUID(bytes=told.payment)}{amount}: told version {told.told_version}{state}, here {here}"
