"""What the tests of all packages share: `memory` (extra memory of a call), `stopping` (training that is
interrupted), `torch_ops` (what every custom operator must hold). This file puts their folder on the path."""
