"""Inputs that a user's disk may hold, and what a tool is to do with each; see ../bad_inputs.py."""
