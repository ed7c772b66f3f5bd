"""The `tchat` command: one parser, one boundary that turns a failed start into a sentence and exit code 2.

Each subcommand imports what it needs when it runs, so that `tchat --help` is quick and the chat client loads no server.
This is the one module that may import across packages.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.node.commerce_cli import add_commerce
from server.node.started import EXIT_CANNOT_START, EXIT_PROBLEM, run_on_uvloop, show, started

if TYPE_CHECKING:
    from server.config.settings import Config

_NEXT = """\
to begin:
  make serve                    start a server on this machine; it prints its URL and two commands
  tchat chat --help             the terminal client
  tchat doctor                  when something does not work: what is wrong and what to do
  docs/                         architecture, protocol, configuration, deployment
"""

_ADMIN = """\
Make a person who has signed up an admin. Admins may suspend people and create services over the HTTP API.
With the embedded PostgreSQL, stop the server first: one process at a time uses the data folder.
"""


_TRACE = """\
What happened to one message: who wrote it when, what was done to it, to whom it is visible, and, for each device,
whether it is connected and why the message was delivered there or not. Shows no content. A server may run meanwhile.
"""


_REPORTS_KEY = """\
Write a new private key to FILE, and print what the configuration of the server needs. Moderators keep the file, away
from the server: who has it reads what was reported. A report is encrypted to the key of its time: keep old files, too.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 problems found, 2 could not start."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.run is None:
        parser.print_help()
        return EXIT_CANNOT_START
    if rest and not chosen.takes_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = chosen.run(chosen, rest)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output (`head`, say) has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tchat",
        description="A real-time chat server for messaging-and-commerce platforms.",
        epilog=_NEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None, takes_rest=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, meaning in (
        ("serve", _serve, "run a node until SIGTERM or Ctrl-C"),
        ("relay", _relay, "announce payments of the ledger in the chat's dialogs until SIGTERM or Ctrl-C"),
        ("migrate", _migrate, "bring the database to this version's schema"),
        ("doctor", _doctor, "check what a server here needs, and say what to do"),
    ):
        command = commands.add_parser(name, help=meaning, description=meaning.capitalize() + ".")
        command.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
        command.set_defaults(run=run)
    admin = commands.add_parser("admin", help="make the person of a phone number an admin", description=_ADMIN)
    admin.add_argument("phone_number", help="as signed up with: + and digits")
    admin.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
    admin.set_defaults(run=_admin)
    for name, run, meaning in (
        ("backup", _backup, "write the embedded database and its keys to a file; the server may run"),
        ("restore", _restore, "make a data folder from a backup; there must be none yet"),
    ):
        command = commands.add_parser(name, help=meaning, description=meaning.capitalize() + ".")
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
        command.set_defaults(run=run)
    nodes = commands.add_parser("nodes", help="the nodes of this database: since when, and how each is")
    nodes.add_argument("--json", action="store_true", help="for a program")
    nodes.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
    nodes.set_defaults(run=_nodes)
    trace = commands.add_parser("trace", help="what happened to one message, device by device", description=_TRACE)
    trace.add_argument("dialog", metavar="DIALOG", help="its id")
    trace.add_argument("seq", type=int, metavar="SEQ", help="the number of the message in it")
    trace.add_argument("--member", metavar="ID", help="of this member only")
    trace.add_argument("--ask", action="append", default=[], metavar="HOST:PORT", help="private port of one more node")
    trace.add_argument("--json", action="store_true", help="for a program")
    trace.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")
    trace.set_defaults(run=_trace)
    add_commerce(commands.add_parser("commerce", help="the service of wallets and payments"))
    _add_reports(commands.add_parser("reports", help="for moderators: what members have reported"))
    config = commands.add_parser("config", help="print every key with its default, unit and meaning")
    config.add_argument("--format", choices=("text", "toml", "markdown"), default="text", help="default: text")
    config.set_defaults(run=_config)
    chat = commands.add_parser("chat", help="the terminal client: talk to somebody", add_help=False)
    chat.set_defaults(run=_chat, takes_rest=True)
    load = commands.add_parser("loadtest", help="put load on a server, and check what it does", add_help=False)
    load.set_defaults(run=_loadtest, takes_rest=True)
    return parser


def _add_reports(parser: argparse.ArgumentParser) -> None:
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    key = parsers.add_parser("key", help="make the key to which reports are encrypted", description=_REPORTS_KEY)
    key.add_argument("file", type=Path, metavar="FILE", help="where the private key goes")
    key.set_defaults(run=_reports_key)
    listing = parsers.add_parser("list", help="the reports that there are, without what they say")
    listing.add_argument("--after", type=int, default=0, metavar="N", help="with numbers above this one")
    listing.set_defaults(run=_reports_list)
    opening = parsers.add_parser("open", help="what a report says, and its proof")
    opening.add_argument("number", type=int, metavar="N", help="see `tchat reports list`")
    opening.add_argument("--key", type=Path, metavar="FILE", help="default: TCHAT_MODERATORS_PRIVATE_KEY")
    opening.set_defaults(run=_reports_open)
    for each in (listing, opening):
        each.add_argument("--config", type=Path, metavar="FILE", help="default: config.toml here, if there is one")


def _serve(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> int:
        from server.node.parent import serve_workers
        from server.node.serve import serve

        if config.server.workers > 1:
            return run_on_uvloop(serve_workers(config))
        run_on_uvloop(serve(config))
        return 0

    return started(chosen.config, run)


def _relay(chosen: argparse.Namespace, _rest: list[str]) -> int:
    def run(config: Config) -> None:
        from server.node.relaying import relay

        run_on_uvloop(relay(config))

    return started(chosen.config, run)


def _migrate(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.archive_start import migrate_archive
    from server.node.postgres_start import running_postgres
    from storage.postgres.incarnations import NodeLock
    from storage.postgres.migrate import migrate

    async def migrate_alone(config: Config, url: str) -> list[str]:
        lock = await NodeLock.take(url, shared=bool(config.cluster.redis_urls))
        try:
            return await migrate(url, print) + await migrate_archive(config.storage, url, print)
        finally:
            await lock.release()

    def run(config: Config) -> None:
        with running_postgres(config) as postgres:
            applied = asyncio.run(migrate_alone(config, postgres.url))
        print("The schema is current." if not applied else f"Applied {len(applied)}; the schema is current.")

    return started(chosen.config, run)


def _admin(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from protocol.ids import to_text
    from server.identity.first_admin import make_admin
    from server.node.postgres_start import running_postgres

    def run(config: Config) -> None:
        with running_postgres(config) as postgres:
            principal = asyncio.run(make_admin(config, postgres.url, chosen.phone_number))
        print(f"{chosen.phone_number} is an admin now: principal {to_text(principal)}")

    return started(chosen.config, run)


def _backup(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.backup import backup

    return started(chosen.config, lambda config: backup(config, chosen.file, show))


def _restore(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.backup import restore

    return started(chosen.config, lambda config: restore(config, chosen.file, show))


def _nodes(chosen: argparse.Namespace, _rest: list[str]) -> int:
    import msgspec

    from server.node.nodes import as_text, read_nodes

    def run(config: Config) -> None:
        lives = read_nodes(config)
        print(msgspec.json.encode(lives).decode() if chosen.json else as_text(lives))

    return started(chosen.config, run)


def _trace(chosen: argparse.Namespace, _rest: list[str]) -> int:
    import msgspec

    from server.node.trace import as_text, trace

    def run(config: Config) -> None:
        found = trace(config, chosen.dialog, chosen.seq, chosen.member, chosen.ask)
        print(msgspec.json.encode(found).decode() if chosen.json else as_text(found))

    return started(chosen.config, run)


def _reports_key(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.reports import make_key
    from server.startup_error import StartupError

    try:
        public = make_key(chosen.file)
    except StartupError as error:
        print(f"tchat: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    print(f'[reports]\nmoderators_key = "{public}"')
    return 0


def _reports_list(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.reports import as_lines, list_reports

    def run(config: Config) -> None:
        for line in as_lines(list_reports(config, chosen.after)):
            print(line)

    return started(chosen.config, run)


def _reports_open(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.reports import as_text, open_report, read_key

    def run(config: Config) -> None:
        print(as_text(open_report(config, chosen.number, read_key(chosen.key, os.environ))))

    return started(chosen.config, run)


def _doctor(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.node.doctor import examine

    findings = examine(chosen.config, os.environ)
    for finding in findings:
        print(finding)
    return EXIT_PROBLEM if any(finding.is_problem for finding in findings) else 0


def _config(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from server.config import reference as config_reference

    write = {
        "text": config_reference.as_text,
        "toml": config_reference.as_toml,
        "markdown": config_reference.as_markdown,
    }
    sys.stdout.write(write[chosen.format]())
    return 0


def _chat(_chosen: argparse.Namespace, rest: list[str]) -> int:
    from tchat.terminal import main as chat

    return chat(rest)


def _loadtest(_chosen: argparse.Namespace, rest: list[str]) -> int:
    from loadtest.cli import main as loadtest

    return loadtest(rest)
