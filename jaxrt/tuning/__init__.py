"""Which form a computation takes on a target: by measurement, or by rules that were measured."""
