"""One module for each part of SAGESnet, whose `bars` hold its measurements by name."""
