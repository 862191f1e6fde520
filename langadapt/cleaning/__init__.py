"""Cleaning of parallel sentences: normalising, dropping, and a count for each rule."""
