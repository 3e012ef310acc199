"""The small shared package of the GenLab course."""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("torch") is None:
    raise ImportError('GenLab needs PyTorch: pip install "genlab-helpers[torch]"')
