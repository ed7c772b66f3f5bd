"""The OpenAPI document of commerce, as a file: `python -m server.node.commerce_document`."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from server.commerce.resources.commerce_app import create_commerce


def as_json() -> str:
    """Return the text of `docs/commerce.json`."""
    parts: Any = None  # a document has only types
    document = msgspec.to_builtins(create_commerce(parts, body_bytes_max=1).openapi_schema.to_schema())
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_json())
