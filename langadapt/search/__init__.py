"""Pictures of a folder, encoded once and found by text or by picture."""
