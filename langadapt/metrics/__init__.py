"""Pure numbers from tensors: no name, no file, no network."""
