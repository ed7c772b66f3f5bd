"""`tchat commerce` and its commands: their options, and what each calls when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from server.node.started import EXIT_PROBLEM, run_on_uvloop, show, started

if TYPE_CHECKING:
    from server.config.settings import Config

_COMMERCE = """\
Run the service of wallets and payments until SIGTERM or Ctrl-C. It has a database of its own; the chat calls it.
"""
_IMPORT = """\
Post the balances of another system, each line once: {"owner": UUID, "currency": "THB", "amount_minor": 100000,
"source": "its id there", "business": false}. A line that was imported does nothing again, and is refused with another
owner or amount. The service may run. Wallets are opened as the service opens them.
"""
_CLOSE_MONTH = """\
Close a month of the books that is over: its trial balance and statements change no more. What is posted from now on is
dated after its end. The service may run; its steps wait for a moment. A month that is closed stays closed.
"""
_WEBHOOKS = """\
Print the bodies of a gateway's webhooks, oldest first, a JSON line each: for who looks into a dispute with the gateway.
They are kept sealed for seven days, and may name people.
"""
_COMMERCE_KEY = """\
Print a new API key of a platform service. Without --right it may only read. The service may run meanwhile.
"""
_COMMERCE_RECONCILE = """\
After a restore: show what the chat was told that the books do not know. The service and a relay may run, and a relay
must have read back what was told. With --accept the books serve again as they are; without it nothing is changed.
What will never be read is named with --without-tenant and --without-gateway, and is a line of the audit.
"""
_GIVE_UP_KEYS = """\
When both folders with the keys of people are lost, and there is no backup of either: say what that means. With --accept
what was sealed under these keys is deleted, and `tchat commerce` can start with new ones. Stop it before.
"""


def add_commerce(parser: argparse.ArgumentParser) -> None:
    """Add the commands, and what the service does when there is none."""
    parser.description = _COMMERCE
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
    parser.set_defaults(run=_commerce)
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    key = parsers.add_parser("key", help="make or end the API key of a platform service", description=_COMMERCE_KEY)
    key.add_argument("name", metavar="NAME", help="of the service; its former key ends")
    rights = ("payments", "payouts", "transfers", "admin", "shops", "personal")
    key.add_argument("--right", action="append", default=[], choices=rights)
    key.add_argument("--business", action="append", default=[], type=UUID, metavar="ID", help="for which it acts")
    key.add_argument("--tenant", type=int, default=1, metavar="N", help="default: 1")
    key.add_argument("--end", action="store_true", help="end the key of this name, and make none")
    key.set_defaults(run=_commerce_key)
    balances = parsers.add_parser("import", help="post opening balances from another system", description=_IMPORT)
    balances.add_argument("file", type=Path, metavar="FILE", help="JSON lines")
    balances.add_argument("--tenant", type=int, default=1, metavar="N", help="default: 1")
    balances.set_defaults(run=_import_balances)
    month = parsers.add_parser("close-month", help="end a month of the books", description=_CLOSE_MONTH)
    month.add_argument("month", metavar="YYYY-MM", help="in UTC")
    month.set_defaults(run=_close_month)
    webhooks = parsers.add_parser("webhooks", help="show what a gateway has sent", description=_WEBHOOKS)
    webhooks.add_argument("gateway", metavar="NAME", help="of the gateway")
    webhooks.add_argument("--last", type=int, default=100, metavar="N", help="the newest; default: 100")
    webhooks.set_defaults(run=_commerce_webhooks)
    books = parsers.add_parser(
        "reconcile", help="after a restore: let the books serve again", description=_COMMERCE_RECONCILE
    )
    books.add_argument("--accept", action="store_true", help="serve again; refused while something is unread")
    for name, kind, value, meaning in (
        ("--tenant", int, "N", "its timelines must be read, whatever the books know; default: 1"),
        ("--without-tenant", int, "N", "its timelines are never read: what its chat was told stays as it is"),
        ("--without-gateway", str, "NAME", "it is configured no more: what it has done since stays unknown"),
    ):
        books.add_argument(name, action="append", type=kind, metavar=value, help=f"{meaning}; may be repeated")
    books.set_defaults(run=_commerce_reconcile)
    for name, run, meaning in (
        ("backup", _commerce_backup, "write the embedded database and its keys to a file; the service may run"),
        ("restore", _commerce_restore, "make the data folder from a backup; there must be none yet"),
    ):
        command = parsers.add_parser(name, help=meaning, description=meaning.capitalize() + ".")
        command.add_argument("file", type=Path, metavar="FILE")
        command.set_defaults(run=run)
    lost = parsers.add_parser("give-up-keys", help="when the keys of people are lost", description=_GIVE_UP_KEYS)
    lost.add_argument("--accept", action="store_true", help="delete what nobody can read any more")
    lost.set_defaults(run=_give_up_keys)
    for each in parsers.choices.values():
        each.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="likewise, also here")


def _commerce(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_serve import serve_commerce

        run_on_uvloop(serve_commerce(config))

    return started(chosen.config, run)


def _commerce_key(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_commands import end_api_key, make_api_key
        from storage.commerce.api_key_store import Right

        if chosen.end:
            end_api_key(config, chosen.tenant, chosen.name)
            return
        rights = Right(0)
        for name in chosen.right:
            rights |= Right[name.upper()]
        print(make_api_key(config, chosen.tenant, chosen.name, rights, [each.bytes for each in chosen.business]))

    return started(chosen.config, run)


def _import_balances(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> int:
        from server.node.commerce_commands import import_balances

        return 0 if import_balances(config, chosen.file, chosen.tenant, print) else EXIT_PROBLEM

    return started(chosen.config, run)


def _close_month(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_commands import close_month

        close_month(config, chosen.month)
        print(f"{chosen.month} is closed: what is posted from now on is dated after it.")

    return started(chosen.config, run)


def _commerce_webhooks(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_commands import show_webhooks

        show_webhooks(config, chosen.gateway, chosen.last, print)

    return started(chosen.config, run)


def _commerce_reconcile(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> int:
        from server.node.commerce_commands import reconcile_books
        from storage.commerce.restored_books import Acceptance

        accept = Acceptance(
            tenants=chosen.tenant or [1],
            without_tenants=chosen.without_tenant or [],
            without_gateways=chosen.without_gateway or [],
        )
        return 0 if reconcile_books(config, accept=accept if chosen.accept else None, show=show) else EXIT_PROBLEM

    return started(chosen.config, run)


def _commerce_backup(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_commands import back_up_books

        back_up_books(config, chosen.file, show)

    return started(chosen.config, run)


def _commerce_restore(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.commerce_commands import restore_books

        restore_books(config, chosen.file, show)

    return started(chosen.config, run)


def _give_up_keys(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> int:
        from server.node.commerce_commands import give_up_keys

        return 0 if give_up_keys(config, accept=chosen.accept, show=show) else EXIT_PROBLEM

    return started(chosen.config, run)
