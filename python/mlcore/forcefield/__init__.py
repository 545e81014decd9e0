"""Force fields: from structures and properties to a potential that LAMMPS runs."""
