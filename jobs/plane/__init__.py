"""The parts of figure 1; `figure1.py` puts them together."""
