"""gRPC: TensorFlow Serving's services over HTTP/2, on the event loop that serves HTTP."""
