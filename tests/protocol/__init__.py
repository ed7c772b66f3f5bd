"""The wire protocol: catalogues, codec, fold and client."""
