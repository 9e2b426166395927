"""Anadil (Turkish: mother tongue): a working speech recogniser for a language that has few recordings."""

__version__ = "0.1.0"
