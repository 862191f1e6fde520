"""Files that appear whole or not at all, the store of computed rows, and what comes from the Hub."""
