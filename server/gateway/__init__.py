"""Bytes to messages and back: the public port, HTTP heads, websocket frames."""
