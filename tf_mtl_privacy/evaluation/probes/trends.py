"""Names of the trends of a learning curve; apart from `curves.py`, so that reports load nothing."""

FLAT, RISING, UNCLEAR = "flat", "still rising", "not clear"
NOT_MEASURED = "not measured"
# Curves that leave open what more rows or more updates would read.
OPEN = (RISING, UNCLEAR)
