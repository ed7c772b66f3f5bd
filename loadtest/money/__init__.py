"""How many payments the books of commerce take: a PostgreSQL of its own, real steps, all checks."""
