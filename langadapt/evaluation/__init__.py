"""Score a model on a retrieval set and show the scores."""
