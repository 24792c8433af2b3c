"""The deployed classifier, which remembers its regions and answers by them."""

from rddrs_dist.classifier.memory import Entry, Memory
from rddrs_dist.classifier.smoothed import CERTIFICATE, MEMORY, Prediction, SmoothedClassifier

__all__ = ["CERTIFICATE", "MEMORY", "Entry", "Memory", "Prediction", "SmoothedClassifier"]
