"""SAGESnet: matter on grids of cells, over many scales of space and time.

    from mlcore.sagesnet import AutomatonCells, Level, Run, SagesNet

    net = SagesNet(AutomatonCells(states=2), [Level()])
    net.fit([Run(states)])
    net.rollout(start, until=200)

After J. Meeks' proposal (2020): atoms or other contents of cells become vectors, a predictor makes
every cell tell its neighbours something and rewrite itself, and lifts turn blocks of cells over
several steps into cells of a coarser grid, where the same kind of predictor works on.
"""

from mlcore.sagesnet.atoms.cells import AtomCells, Scales
from mlcore.sagesnet.atoms.frames import read_states, states_of, trajectory_of, write_states
from mlcore.sagesnet.atoms.grid import AtomGrid
from mlcore.sagesnet.atoms.matching import Matched, Matching, match_forces, match_steps
from mlcore.sagesnet.atoms.slots import Slots, slots
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.atoms.thermostat import Thermostat
from mlcore.sagesnet.automata.cells import AutomatonCells
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.fit import LiftSchedule, Run
from mlcore.sagesnet.grid import Environment, Grid
from mlcore.sagesnet.lattice import ActiveLattice, DenseLattice, Lattice
from mlcore.sagesnet.lift import Lift, effective_rank
from mlcore.sagesnet.net import Level, SagesNet
from mlcore.sagesnet.predictor import Predictor
from mlcore.sagesnet.rollout import Rollout
from mlcore.sagesnet.symmetry import Symmetry, octahedral
from mlcore.sagesnet.tiled import Tiled
from mlcore.sagesnet.tiles import TiledLattice

__all__ = [
    "ActiveLattice",
    "AtomCells",
    "AtomGrid",
    "AtomState",
    "AutomatonCells",
    "Cells",
    "DenseLattice",
    "Environment",
    "Grid",
    "Lattice",
    "Level",
    "Lift",
    "LiftSchedule",
    "Matched",
    "Matching",
    "Predictor",
    "Rollout",
    "Run",
    "SagesNet",
    "Scales",
    "Slots",
    "Symmetry",
    "Thermostat",
    "Tiled",
    "TiledLattice",
    "effective_rank",
    "match_forces",
    "match_steps",
    "octahedral",
    "read_states",
    "slots",
    "states_of",
    "trajectory_of",
    "write_states",
]
