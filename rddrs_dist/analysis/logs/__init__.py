"""Interchange: our rows as tab-separated logs of other projects, and their logs as our rows."""
