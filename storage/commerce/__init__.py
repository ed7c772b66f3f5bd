"""The books of commerce: accounts, transfers, holds, limits, payments, in a PostgreSQL database of their own."""
