"""What may be asked of shops, and by whom; each step is judged here, then by the database, and kept under its key."""
