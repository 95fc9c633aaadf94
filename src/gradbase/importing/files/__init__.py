"""Reading model files, in a child process with limits: only plain data comes out.

Nothing here loads torch, ONNX Runtime or the `onnx` package; nothing is unpickled or evaluated.
Weights stay in the file: what comes out says where each one lies.
"""
