"""Exports a run as a SavedModel for TensorFlow Serving, and as files for devices."""
