"""Networks: encoder E, task classifier B, discriminator D, restorer R. Start with `bundle.py`."""
