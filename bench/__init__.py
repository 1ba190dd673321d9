"""Benchmarks: no part of the package and of no test."""
