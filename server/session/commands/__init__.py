"""The handlers of the commands, one module per family."""
