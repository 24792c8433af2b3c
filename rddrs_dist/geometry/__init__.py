"""Geometry of symmetric positive definite (SPD) matrices: pure batched functions on tensors."""
