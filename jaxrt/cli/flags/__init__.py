"""The flags of `jaxrt serve`: TensorFlow Serving's, with its spelling, and jaxrt's own."""
