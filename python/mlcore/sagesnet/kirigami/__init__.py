"""Sheets with cuts: the labelled set, a scalar head that foretells their strain, and the search."""
