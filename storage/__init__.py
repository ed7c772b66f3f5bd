"""What is kept: row types, one Protocol per need and one engine per file, schema and migrations."""
