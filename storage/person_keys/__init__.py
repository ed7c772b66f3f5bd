"""The keys of what is personal in commerce: not in the database whose log and backups hold what they seal."""
