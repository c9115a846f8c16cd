"""The check server: TensorFlow Serving's interfaces for a laptop or a test that has none."""
