"""Audits of the private update, as shipped and with planted faults."""
