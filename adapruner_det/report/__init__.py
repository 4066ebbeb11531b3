"""What was kept and dropped, for people: read from a Selection alone."""
