"""Old name of `networks`, until the last chapter that imports it is revised."""

from genlab_helpers.networks import Judge, accuracy
from genlab_helpers.networks import judge as load

__all__ = ["Judge", "accuracy", "load"]
