"""Old name of `networks`, until the last chapter that imports it is revised."""

from genlab_helpers.networks import MEAN, STD, VGG_LAYERS, Network, deepest, vgg19
from genlab_helpers.networks import feature_network as eye

__all__ = ["MEAN", "STD", "VGG_LAYERS", "deepest", "eye", "vgg19"]

# Chapter 7 prints where the weights came from under the name that it had before.
Network.origin = property(lambda network: network.source)
