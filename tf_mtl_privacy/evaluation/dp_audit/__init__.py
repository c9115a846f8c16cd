"""A lower bound on epsilon from experiments: what was measured, beside what is claimed."""
