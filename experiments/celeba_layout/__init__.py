"""Drawn faces on disk in CelebA's layout."""
