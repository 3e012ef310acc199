"""Old name of `figures`, until the last chapter that imports it is revised."""

from genlab_helpers.figures import before_after, image_grid

__all__ = ["before_after", "image_grid"]
