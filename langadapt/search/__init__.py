"""Index the images of a folder and search them by text or by image."""
