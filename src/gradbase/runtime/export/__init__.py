"""Models as files for others: ONNX with preprocessing inside, and programs of torch."""
