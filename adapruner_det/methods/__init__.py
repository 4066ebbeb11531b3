"""What else makes selections: one file a method, to compare with."""
