"""The contracts of `storage` on PostgreSQL, and its schema."""
