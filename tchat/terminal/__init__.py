"""`tchat chat`, the terminal client. Its modules are imported when it runs, so that its help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DEFAULT_SERVER = "http://127.0.0.1:7420"


def main(arguments: Sequence[str]) -> int:
    """Run the terminal client with these arguments; the exit code."""
    parser = argparse.ArgumentParser(
        prog="tchat chat",
        description="Talk to somebody. Direct dialogs and groups are end-to-end encrypted; channels are not.",
        epilog="A development server writes sign-in codes to its log. In the chat, /help lists the commands.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the terminal client."""
    parser.add_argument("--server", default=DEFAULT_SERVER, metavar="URL", help=f"default: {DEFAULT_SERVER}")
    parser.add_argument("--phone", required=True, metavar="NUMBER", help="yours, as +6591234567")
    parser.add_argument("--name", default="", help="how others see you; needed the first time")
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="for tokens, keys and unsent messages; each device has one"
    )


def run(chosen: argparse.Namespace) -> int:
    """Sign in if necessary, then chat until the person quits; the exit code: 0, or 2 after an error message."""
    import asyncio

    from tchat.terminal.start import CannotStartError, chat

    try:
        return asyncio.run(chat(chosen.server, chosen.phone, chosen.name, chosen.state))
    except CannotStartError as error:
        sys.stderr.write(f"tchat chat: {error}\n")
        return 2
