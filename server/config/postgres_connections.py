"""How many connections to PostgreSQL a server has: what an embedded one must allow, and one of yours, too."""

from server.config.settings import Config

OTHER_WRITERS = 2
"""What writes beside the lanes: the receipts, and what is set aside."""
_ALONE = 6
"""Connections that keep a lock of their own: the right to serve, the mover; and those of moments."""
_VISITORS = 15
"""`tchat doctor`, `trace`, `backup`, and the connections that PostgreSQL keeps for its administrator."""

EMBEDDED_MIN = 100
EMBEDDED_MAX = 500
"""Each connection is a process of some megabytes."""


def count_connections(config: Config) -> int:
    """The most that all workers of this server may have open, and who visits the database."""
    storage = config.storage
    of_a_node = storage.connections_max + storage.read_connections_max + config.pipeline.lanes + OTHER_WRITERS + _ALONE
    return config.server.workers * of_a_node + _VISITORS
