"""Users' modules of equal structure as one stack: what they call is done for all at once."""
