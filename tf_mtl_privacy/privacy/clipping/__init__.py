"""Sums of per-example gradients, each clipped, by three backends that agree to float accuracy."""
