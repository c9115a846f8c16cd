"""The parts of an audit: membership, private label, inversion, epsilon; without TensorFlow."""

# `--shadows` where it is not given: as many shadow models as the audit's setting has.
DEFAULT_SHADOWS = -1
