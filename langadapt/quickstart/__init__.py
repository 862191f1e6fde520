"""The embedded world: drawn photos, captions in five languages, and a tiny CLIP and text model for them.

`tools/embedded_world` of a checkout makes what is shipped here as data: sentences, test scenes and weights.
"""
