"""Joins a dialog to another system, by Standard Webhooks in both directions.

Whoever writes `/bridge` to the bot joins their dialog. What is written there is posted to BRIDGE_URL, as
`{"author": ..., "text": ...}`; what the other system posts to BRIDGE_PORT as `{"text": ...}` is written there. Both are
signed with BRIDGE_SECRET (`whsec_...`), and both happen once: a request is repeated under the same `webhook-id`.
"""

import asyncio
import base64
import hmac
import json
import os
import time
from pathlib import Path

import httpx

from tchat import Bot, MessageContext

BODY_BYTES_MAX = 65_536
OLD_AFTER_S = 300

server, key = os.environ.get("BOT_SERVER", "http://127.0.0.1:7420"), Path(os.environ.get("BOT_KEY", "bot.key"))
bot = Bot(server, key, folder="bridge")
joined_file = Path("bridge.dialog")
joined = joined_file.read_text() if joined_file.exists() else ""
secret = base64.b64decode(os.environ.get("BRIDGE_SECRET", "").removeprefix("whsec_"))


def sign(message_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a request."""
    return (
        "v1," + base64.b64encode(hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, "sha256")).decode()
    )


@bot.command("bridge")
async def join(message: MessageContext) -> None:
    """Join the dialog in which this was written."""
    global joined  # noqa: PLW0603 - the one dialog of this program
    joined = message.dialog.hex()
    await asyncio.to_thread(joined_file.write_text, joined)
    await message.reply("This dialog is joined to the other system.")


@bot.on_message
async def post(message: MessageContext) -> None:
    """Post what is written; the bot runs this again when it fails, and nothing later is posted before."""
    if message.dialog.hex() != joined:
        return
    body = json.dumps({"author": message.author.hex(), "text": message.text}).encode()
    message_id, timestamp = f"{message.dialog.hex()}-{message.event.seq}", str(int(time.time()))
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(message_id, timestamp, body),
    }
    async with httpx.AsyncClient(timeout=10) as http:
        (await http.post(os.environ["BRIDGE_URL"], content=body, headers=headers)).raise_for_status()


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of the other system."""
    try:
        async with asyncio.timeout(30):
            status = await write_down(reader)
    except (ValueError, KeyError, OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        status = 400
    writer.write(f"HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
    writer.close()


async def write_down(reader: asyncio.StreamReader) -> int:
    """Write what a request says into the dialog, once for its id; returns the status of the answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers["content-length"])
    if length > BODY_BYTES_MAX:
        return 413
    body = await reader.readexactly(length)
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    signatures = headers["webhook-signature"].split()
    if not any(hmac.compare_digest(sign(message_id, timestamp, body), one) for one in signatures):
        return 401
    if abs(time.time() - int(timestamp)) > OLD_AFTER_S or not joined:
        return 400
    await bot.send(bytes.fromhex(joined), str(json.loads(body)["text"]), key=message_id)
    return 204


@bot.background
async def listen(_bot: Bot) -> None:
    """Take requests while the bot runs."""
    listening = await asyncio.start_server(receive, "127.0.0.1", int(os.environ.get("BRIDGE_PORT", "7430")))
    print("port", listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    bot.run()
