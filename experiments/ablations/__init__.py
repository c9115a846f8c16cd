"""Ablation study: one row for each way of removing the private label."""
