"""Privacy-utility frontier over beta."""
