"""The embedded world: drawn scenes, captions in five languages, a tiny teacher and a tiny text model."""
