"""Tests of `server/commerce/gateways`."""
