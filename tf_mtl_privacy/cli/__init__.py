"""Command-line interface.

`main.py` runs a command, `commands.py` lists them, and each command has one file with its options
and its `main`. Nothing here imports TensorFlow before the flags are checked.
"""
