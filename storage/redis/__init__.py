"""On Redis: what nodes tell each other, and who is connected where."""
