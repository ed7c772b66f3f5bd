"""One node: the command line, its composition, its private port."""
