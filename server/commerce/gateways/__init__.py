"""Payment gateways: one contract, an engine for each gateway, and what their objects change in the ledger."""
