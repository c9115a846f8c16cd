"""Attribute accuracy on people with and without training pictures."""
