"""Connections, sessions, column types, and the Postgres that Setia brings along."""
