"""The HTTP resources of commerce, a file per family."""
