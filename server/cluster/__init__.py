"""One node among several that share a database: who else lives, and what they wrote."""
