"""Host segments without TensorFlow: a GraphDef read and run in numpy and plain Python."""
