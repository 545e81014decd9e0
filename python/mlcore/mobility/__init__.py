"""Mobilities: tensors, estimates from trajectories, learned models."""
