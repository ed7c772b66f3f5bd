"""`tchat trace DIALOG SEQ`: what happened to one message, member by member and device by device, and why.

It reads the database (`storage/postgres/traces.py`), for an old event the archive, and asks nodes and Redis who is
connected. It changes nothing, shows no content, and says what nobody knows: which device of a member has reported a
receipt, and what a client has shown.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from protocol.ids import from_text
from server.config.settings import Config
from server.node.archive_start import configured_archive
from server.node.connected import Here
from server.node.postgres_start import visited_postgres
from server.node.redis_start import running_redis
from server.node.trace_reasons import Asked, Trace, explain
from server.startup_error import StartupError
from storage.archive import Archive
from storage.cql.archive import CqlArchive
from storage.postgres.traces import LATER_MAX, Found, add_archived, read_trace
from storage.unavailable import StorageUnavailableError

_ASK_TIMEOUT_S = 5.0


def trace(config: Config, dialog: str, seq: int, member: str | None, ask: Sequence[str] = ()) -> Trace:
    """Find out, and ask these private ports, HOST:PORT, besides that of this configuration.

    Raises StartupError for ids that are none, and what reading a database raises.
    """
    for name, text in (("DIALOG", dialog), ("--member", member)):
        try:
            from_text(text or dialog)
        except ValueError:
            raise StartupError(f"{name} takes an id as the API writes it, and {text} is none.") from None
    with visited_postgres(config) as url:
        if url is None:
            raise StartupError(f"There is no database in {config.server.data_dir} yet.")
        found, unknown = asyncio.run(_read(config, url, dialog, seq, member))
    asked = _ask_all(config, ask, found)
    located = asyncio.run(_locate(config, found))
    if located is None and config.cluster.redis_urls:
        unknown.append("Redis cannot be asked who is connected: see `tchat doctor`.")
    asked = msgspec.structs.replace(asked, unknown=[*asked.unknown, *unknown], located=located)
    return explain(dialog, seq, found, asked)


async def _read(config: Config, url: str, dialog: str, seq: int, member: str | None) -> tuple[Found, list[str]]:
    """What the database and, for an old event, the archive have; and what cannot be known."""
    found = await read_trace(url, dialog, seq, member)
    server = configured_archive(config.storage)
    if server is None or found.head is None or found.row is not None or seq > found.head.seq:
        return found, []
    archive = CqlArchive(server, read_timeout_s=_ASK_TIMEOUT_S, write_timeout_s=_ASK_TIMEOUT_S)
    try:
        return await add_from_archive(archive, found, dialog, seq), []
    except StorageUnavailableError as error:
        return found, [f"The archive cannot be read ({error})."]
    finally:
        await archive.close()


async def _locate(config: Config, found: Found) -> dict[str, list[int]] | None:
    """By member, the nodes that serve and that Redis finds them at; None if it does not answer, or there is none."""
    principals = _concerned(found)
    async with running_redis(config.cluster, found.deployment_key) as redis:
        if redis is None:
            return None
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                for instance in redis.instances:
                    await instance.answers.wait()
        except TimeoutError:
            return None
        located = await redis.presence.locate([from_text(principal) for principal in principals])
    if not located.token:
        return None
    nodes = [[node for node in each if node in found.living] for each in located.nodes]
    return dict(zip(principals, nodes, strict=True))


def _concerned(found: Found) -> list[str]:
    """The members who may read it."""
    return [each.principal_id for each in found.members if each.visible]


async def add_from_archive(archive: Archive, found: Found, dialog: str, seq: int) -> Found:
    """What was found, and what the archive has of number `seq`. Raises StorageUnavailableError."""
    rows = await archive.read_rows(from_text(dialog), [seq])
    about = await archive.read_about(from_text(dialog), seq, seq, limit=LATER_MAX, newest_first=False)
    return add_archived(found, rows[0] if rows else None, about)


def as_text(it: Trace) -> str:
    """For a person."""
    lines = [f"dialog {it.dialog}, number {it.seq}", *(f"  {fact}" for fact in it.facts), ""]
    for member in it.members:
        lines.append(f"{member.principal} ({member.role}): {member.why}")
        lines += [f"    device {each.device}{each.client}: {each.why}" for each in member.devices]
    lines += ["", *it.notes] if it.notes else []
    return "\n".join(lines)


def _ask_all(config: Config, ask: Sequence[str], found: Found) -> Asked:
    """Who of the members is connected, as far as nodes answer."""
    server = config.server
    host = f"[{server.admin_host}]" if ":" in server.admin_host else server.admin_host
    principals = [("principal", each) for each in _concerned(found)]
    answers: dict[int, Here] = {}
    unknown = []
    for port in dict.fromkeys([f"{host}:{server.admin_port}", *ask]):
        try:
            with urllib.request.urlopen(
                f"http://{port}/connected?{urlencode(principals)}", timeout=_ASK_TIMEOUT_S
            ) as it:
                here = msgspec.json.decode(it.read(), type=Here | list[Here])
        except (OSError, ValueError, http.client.HTTPException, msgspec.MsgspecError) as error:
            unknown.append(f"No node answers on {port} ({error}): name the private ports of your nodes with --ask.")
        else:
            answers |= {each.incarnation: each for each in (here if isinstance(here, list) else [here])}
    unknown += [
        f"Node {node}, incarnation {incarnation}, was not asked who is connected: name its private port with --ask."
        for incarnation, node in found.living.items()
        if answers and incarnation not in answers
    ]
    return Asked(list(answers.values()), unknown)
