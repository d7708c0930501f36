"""Verbs of `fleet`, a file a family; RQ is imported inside them, after the settings (ADR 13)."""
