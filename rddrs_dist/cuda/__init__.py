"""Kernels for NVIDIA GPUs, in Triton: what no library does well and the rest waits for.

Nothing here is imported before a tensor lies on such a device. On Linux torch brings Triton along.
"""
