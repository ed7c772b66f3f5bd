"""Answers every message with itself. BOT_KEY names the file with the API key, BOT_SERVER the server."""

import os
from pathlib import Path

from tchat import Bot, MessageContext

server, key = os.environ.get("BOT_SERVER", "http://127.0.0.1:7420"), Path(os.environ.get("BOT_KEY", "bot.key"))
bot = Bot(server, key, folder="echo")


@bot.on_message
async def echo(message: MessageContext) -> None:
    """Say it again."""
    await message.reply(message.text)


if __name__ == "__main__":
    bot.run()
