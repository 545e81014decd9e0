"""Carbon by LAMMPS' AIREBO: sheets with cuts pulled apart, what they tell, and sets of them."""

from mlcore.sagesnet.carbon.cuts import all_patterns, cut, random_patterns
from mlcore.sagesnet.carbon.dataset import Dataset, Sample, Window
from mlcore.sagesnet.carbon.labels import Yield, first_peak, modulus, seed_noise, yield_point
from mlcore.sagesnet.carbon.sheets import PAPER, REDUCED, TINY, Design, body, chain, tube
from mlcore.sagesnet.carbon.stretch import Pull, Stretch, relax, stretch

__all__ = [
    "PAPER",
    "REDUCED",
    "TINY",
    "Dataset",
    "Design",
    "Pull",
    "Sample",
    "Stretch",
    "Window",
    "Yield",
    "all_patterns",
    "body",
    "chain",
    "cut",
    "first_peak",
    "modulus",
    "random_patterns",
    "relax",
    "seed_noise",
    "stretch",
    "tube",
    "yield_point",
]
