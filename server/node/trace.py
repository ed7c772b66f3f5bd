"""`tchat trace DIALOG SEQ`: what happened to one message, member by member and device by device, and why.

It reads the database (`storage/postgres/traces.py`) and asks the node of this configuration who is connected to it. It
changes nothing, shows no content, and says what nobody knows: which device of a member has reported a receipt, and what
a client has shown.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from urllib.parse import urlencode

import msgspec

from protocol.ids import from_text
from server.config.settings import Config
from server.node.connected import Here
from server.node.postgres_start import visited_postgres
from server.node.trace_reasons import Trace, explain
from server.startup_error import StartupError
from storage.postgres.traces import read_trace

_ASK_TIMEOUT_S = 5.0


def trace(config: Config, dialog: str, seq: int, member: str | None) -> Trace:
    """Find out. Raises StartupError for ids that are none, and what reading a database raises."""
    for name, text in (("DIALOG", dialog), ("--member", member)):
        try:
            from_text(text or dialog)
        except ValueError:
            raise StartupError(f"{name} takes an id as the API writes it, and {text} is none.") from None
    with visited_postgres(config) as url:
        if url is None:
            raise StartupError(f"There is no database in {config.server.data_dir} yet.")
        found = asyncio.run(read_trace(url, dialog, seq, member))
    here = _ask_node(config, [each.principal_id for each in found.members if each.visible])
    return explain(dialog, seq, found, here)


def as_text(it: Trace) -> str:
    """For a person."""
    lines = [f"dialog {it.dialog}, number {it.seq}", *(f"  {fact}" for fact in it.facts), ""]
    for member in it.members:
        lines.append(f"{member.principal} ({member.role}): {member.why}")
        lines += [f"    device {each.device}{each.client}: {each.why}" for each in member.devices]
    lines += ["", *it.notes] if it.notes else []
    return "\n".join(lines)


def _ask_node(config: Config, principals: list[str]) -> Here | str:
    """Who of these is connected to the node of this configuration; or why nobody knows."""
    server = config.server
    host = f"[{server.admin_host}]" if ":" in server.admin_host else server.admin_host
    url = f"http://{host}:{server.admin_port}/connected?{urlencode([('principal', each) for each in principals])}"
    try:
        with urllib.request.urlopen(url, timeout=_ASK_TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=Here)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        return (
            f"Who is connected is not known: no node answers on {server.admin_host} port {server.admin_port} ({error})."
        )
