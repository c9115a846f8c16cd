"""The parts of an audit: membership, private label, inversion, epsilon; no TensorFlow here."""

# `--shadows` when it is not given: as many shadow models as the audit's budget has.
DEFAULT_SHADOWS = -1
