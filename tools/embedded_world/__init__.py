"""Make the embedded world's shipped files: `python -m tools.embedded_world.sentences` and `...build`."""
