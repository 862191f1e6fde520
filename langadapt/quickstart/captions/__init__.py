"""Hand-written caption grammars, one module per language."""
