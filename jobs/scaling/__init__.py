"""The parts of the scaling trial; `scaling_trial.py` puts them together."""
