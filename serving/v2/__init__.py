"""KServe's v2 inference protocol over HTTP, with Triton's binary tensor extension."""
