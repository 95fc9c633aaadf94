"""Networks whose weights or results are larger than memory: tensors as tiles, joined as streams."""
