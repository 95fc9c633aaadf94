"""One rule per file; `stages.py` says which run and in what order."""
