"""Old name of `figures`, until the last chapter that imports it is revised."""

from genlab_helpers.figures import animation, photograph, still

__all__ = ["animation", "photograph", "still"]
