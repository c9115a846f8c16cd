"""Studies of the mask: what its fills let pass."""
