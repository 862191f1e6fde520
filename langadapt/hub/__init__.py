"""A finished run becomes a folder that others can use, and a repository on the Hub."""
