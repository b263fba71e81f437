"""Builders of networks from scaling coefficients."""
