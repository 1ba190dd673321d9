"""Engines side by side: one SavedModel, one machine, one run, a process for every contender."""
