"""Taking a selection elsewhere: the kept samples in the formats of other programs.

It knows neither task: what it needs of a data set comes in as :class:`.records.Records`.
"""
