"""jaxrt: serve TensorFlow SavedModels with JAX and XLA, compiled ahead of time."""

__version__ = "0.1.0"
