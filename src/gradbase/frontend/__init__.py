"""From text to the IR: statements, options, queries, exported modules."""
