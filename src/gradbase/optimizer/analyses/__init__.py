"""Questions about a plan that rules ask and that need more than one node to answer."""
