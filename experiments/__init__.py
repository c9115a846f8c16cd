"""Experiments: trainings and attacks behind the figures of docs/; each folder has a README."""
