"""The contracts every stage shares, and the loop that runs the stages."""

__version__ = "0.1.0"
