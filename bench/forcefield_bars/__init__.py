"""One module for each part of force-field fitting, whose `bars` hold its measurements by name."""
