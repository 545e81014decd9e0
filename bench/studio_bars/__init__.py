"""One module for each part of the studio, whose `bars` hold its measurements by name."""
