"""Export of a run as a SavedModel for TensorFlow Serving, and as TensorFlow Lite and ONNX files.

Start with `exporting.export_run`: it builds the `signatures`, writes the version with its
`extra_files`, puts the `server_files` beside it, and publishes it (`version_folder`).
`device_files` writes TensorFlow Lite and ONNX files, which `conversion` creates.
"""
