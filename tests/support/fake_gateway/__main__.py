"""`python -m tests.support.fake_gateway`: a gateway that listens on 127.0.0.1 until it is ended.

Its book is `book.sqlite` in `--folder`: with the same folder it goes on where it was, also after a kill. Webhooks that
were not sent by then are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
from pathlib import Path

from tests.support.fake_gateway.bank import Bank, Timing
from tests.support.fake_gateway.book import Book
from tests.support.fake_gateway.faults import NAMES, Faults
from tests.support.fake_gateway.front import Front
from tests.support.fake_gateway.http_server import serve_connection
from tests.support.fake_gateway.webhook_sender import WebhookSender


def read_arguments() -> argparse.Namespace:
    """The arguments, checked."""
    faults = "\n".join(f"  {name:<24} {meaning}" for name, meaning in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.fake_gateway",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"faults:\n{faults}",
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--webhook-url", default="", help="where events go; nowhere if empty")
    parser.add_argument("--webhook-secret", required=True, help="whsec_ and base64")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=CHANCE", help="may be repeated")
    parser.add_argument("--customers", action="store_true", help="QR codes are paid without /customers/pay")
    parser.add_argument("--settle-s", type=float, default=Timing.settle_s, help="how long what is pending takes")
    parser.add_argument("--late-s", type=float, default=Timing.late_s, help="how late what is late is")
    parser.add_argument("--key-window-s", type=float, default=Timing.key_window_s)
    return parser.parse_args()


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until cancelled."""
    chances = {name: float(chance) for name, _, chance in (each.partition("=") for each in arguments.fault)}
    faults = Faults(arguments.seed, chances)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    book = Book(arguments.folder / "book.sqlite")
    timing = Timing(arguments.settle_s, arguments.late_s, arguments.key_window_s)
    bank = Bank(book, faults, timing, customers=arguments.customers)
    sender = WebhookSender(arguments.webhook_url, arguments.webhook_secret, faults, arguments.late_s)
    front = Front(book, bank, faults, sender, arguments.api_key)
    serving = functools.partial(serve_connection, front.answer)
    server = await asyncio.start_server(serving, "127.0.0.1", arguments.port)
    print(f"listens on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await front.run()


if __name__ == "__main__":
    asyncio.run(serve(read_arguments()))
