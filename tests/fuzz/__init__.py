"""Random input against whatever reads bytes from outside."""
