"""Weights in fewer bits: which, how, and the program that computes with them."""
