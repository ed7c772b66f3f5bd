"""`python -m protocol.reference` prints the page."""

import sys

from protocol.reference.page import as_markdown

sys.stdout.write(as_markdown())
