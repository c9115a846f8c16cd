"""Audits private updates: a measured lower bound on epsilon beside the claimed epsilon."""
