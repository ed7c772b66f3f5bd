"""What every HTTP API of ours has in common: refusals, headers, the page of its document."""
