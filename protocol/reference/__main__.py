"""`python -m protocol.reference` prints the page, with `--json` the tables."""

import sys

from protocol.reference.page import as_markdown
from protocol.reference.tables import as_json

sys.stdout.write(as_json() if sys.argv[1:] == ["--json"] else as_markdown())
