"""Sampling strategies: one module for each."""
