"""The HTTP contract of commerce, against any implementation: `python -m tests.conformance.commerce --url URL`.

    --key FILE         the private key (PEM, Ed25519) that signs tokens of the chat; else COMMERCE_SIGNING_KEY holds it
    --payer --payee    two people with wallets in the currency; the payer has 100,000 minor units or more
    --poor             one whose wallet has nothing in it
    --currency, --tenant

Each fact of `contract_facts.py` is checked with requests of its own, which pay small amounts. Prints one
JSON line: `checked` facts, how many `failed`, and how many answers were `server_errors` (5xx, or a body that shows the
inside). What failed and why goes to stderr. It exits with 1 unless both are 0.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from uuid import UUID

import httpx

from server.identity.signing_keys import SigningKeys
from tests.conformance.contract_caller import Caller, Deployment
from tests.conformance.contract_facts import FACTS


async def check(deployment: Deployment) -> dict[str, int]:
    """Check every fact against an implementation; the numbers of the JSON line."""
    failed = 0
    async with httpx.AsyncClient(base_url=deployment.url, timeout=30, trust_env=False) as client:
        caller = Caller(client, deployment)
        for fact in FACTS:
            try:
                await fact(caller)
            except (AssertionError, KeyError, TypeError, ValueError, httpx.HTTPError) as error:
                failed += 1
                print(f"failed: {fact.__name__}: {type(error).__name__} {error}", file=sys.stderr)
    return {"checked": len(FACTS), "failed": failed, "server_errors": caller.server_errors}


def main() -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.commerce", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", type=Path, metavar="FILE")
    for name in ("payer", "payee", "poor"):
        parser.add_argument(f"--{name}", type=UUID, required=True, metavar="ID")
    parser.add_argument("--currency", default="THB")
    parser.add_argument("--tenant", type=int, default=1)
    chosen = parser.parse_args()
    pem = chosen.key.read_text() if chosen.key else os.environ["COMMERCE_SIGNING_KEY"]
    result = asyncio.run(
        check(
            Deployment(
                url=chosen.url,
                keys=SigningKeys.from_pem(pem),
                payer=chosen.payer,
                payee=chosen.payee,
                poor=chosen.poor,
                currency=chosen.currency,
                tenant=chosen.tenant,
            )
        )
    )
    print(json.dumps(result))
    return 1 if result["failed"] or result["server_errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
