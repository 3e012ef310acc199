"""Small shared parts of the GenLab course; each chapter imports what it names."""

__version__ = "0.1.0"
