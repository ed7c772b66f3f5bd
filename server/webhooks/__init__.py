"""Webhooks: the events of bots that hold no connection, posted to an address of theirs."""
