"""For tests, ours and those of other engines: the engine contract and the .slt runner."""
