"""One module for each kind of integrator, whose `bars` hold its long measurements by name."""
