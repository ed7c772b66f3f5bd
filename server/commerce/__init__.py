"""Commerce: a service of its own, which the chat knows only by its HTTP contract."""
