"""Setia: a lightweight CRM with a loyalty ledger."""

__version__ = "0.1.0"
