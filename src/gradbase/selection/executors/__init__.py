"""Where units are trained: in this process, in local worker processes, or on Ray."""
