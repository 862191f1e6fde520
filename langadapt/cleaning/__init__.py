"""Cleaning of parallel sentences: what is mended, what is dropped, and a count for each rule."""
