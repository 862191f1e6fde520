"""Adapted models in the forms that other tools load."""
