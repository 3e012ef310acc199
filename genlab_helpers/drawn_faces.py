"""Old name of `cartoons`, until the last chapter that imports it is revised."""

from genlab_helpers.cartoons import draw_faces

__all__ = ["draw_faces"]
