"""Difficulty bounds of the synthetic faces."""
