"""Rows in, batches out. Knows no model."""
