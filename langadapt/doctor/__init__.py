"""Before anything is trained: will it work, with what, and what should be done first."""
