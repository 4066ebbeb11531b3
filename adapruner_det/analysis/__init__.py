"""What a selection does to the geometry of the data, as a trained model sees them.

It knows no trainer: features and labels come in as arrays.
"""
