"""Ops on numbers: shapes, indexing, arithmetic."""
