"""From what is durable to sockets: routing, rooms, outboxes."""
