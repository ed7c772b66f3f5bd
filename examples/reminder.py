"""Reminds people: who writes `/remind 10 tea` gets "tea" ten minutes later, once, also when the bot was away meanwhile.

A handler may run again for the same message, so what it does beside its replies can be repeated: the reminder is kept
under the number of the message. It is sent under a key, and forgotten when it is durable.
"""

import os
import sqlite3
import time
from pathlib import Path

import anyio

from tchat import Bot, MessageContext, RefusedError

server, key = os.environ.get("BOT_SERVER", "http://127.0.0.1:7420"), Path(os.environ.get("BOT_KEY", "bot.key"))
bot = Bot(server, key, folder="reminder")
db = sqlite3.connect("reminders.db", isolation_level=None)
db.execute(
    "CREATE TABLE IF NOT EXISTS reminders (dialog BLOB, seq INT, due REAL, text TEXT, PRIMARY KEY (dialog, seq))"
)


@bot.command("remind")
async def remind(message: MessageContext) -> None:
    """Keep a reminder."""
    minutes, _, text = message.arguments.partition(" ")
    if not minutes.isdecimal() or len(minutes) > 6 or not text:
        await message.reply("Write /remind MINUTES TEXT.")
        return
    due = message.event.at_ms / 1000 + 60 * int(minutes)
    db.execute("INSERT OR IGNORE INTO reminders VALUES (?, ?, ?, ?)", (message.dialog, message.event.seq, due, text))
    await message.reply(f"I will remind you in {minutes} minutes.")


@bot.background
async def remind_when_due(bot: Bot) -> None:
    """Send what is due, every second."""
    while True:
        due = db.execute("SELECT dialog, seq, text FROM reminders WHERE due <= ?", (time.time(),)).fetchall()
        for dialog, seq, text in due:
            try:
                await bot.send(dialog, text, key=f"{dialog.hex()} {seq}")
            except RefusedError as error:
                print("A reminder cannot be sent:", error)
            db.execute("DELETE FROM reminders WHERE dialog = ? AND seq = ?", (dialog, seq))
        await anyio.sleep(1)


if __name__ == "__main__":
    bot.run()
