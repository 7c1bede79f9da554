"""An ONNX graph: read, mapped into segments, built anew, or put into fewer bits."""
