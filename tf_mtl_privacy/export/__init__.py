"""Export of a run as a SavedModel for TensorFlow Serving, and as TensorFlow Lite and ONNX files."""
