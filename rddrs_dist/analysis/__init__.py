"""What rows say: lines, sizes, curves, tables and figures."""
