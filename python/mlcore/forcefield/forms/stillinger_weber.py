"""Potential of Stillinger and Weber."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Known, Table

__all__ = ["MW", "STILLINGER_WEBER"]

_COLUMNS = ["epsilon", "sigma", "a", "lambda", "gamma", "cos0", "A", "B", "p", "q", "tol"]


def _parameter(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="triplet"
    )


_SW = "F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), doi:10.1103/PhysRevB.31.5262"

STILLINGER_WEBER = Form(
    name="sw",
    title="Stillinger-Weber",
    citation=_SW,
    parameters=(
        _parameter("epsilon", 2.1683, 0.01, 20.0, "eV", "depth"),
        _parameter("sigma", 2.0951, 0.5, 5.0, "A", "length"),
        _parameter("a", 1.8, 1.2, 3.0, text="cutoff in sigma"),
        _parameter("lambda", 21.0, 0.0, 100.0, text="strength of three bodies"),
        _parameter("gamma", 1.2, 0.1, 5.0, text="decay of three bodies"),
        _parameter("cos0", -1 / 3, -1.0, 1.0, text="cosine of the best angle"),
        _parameter("A", 7.049556277, 0.1, 100.0, text="strength of two bodies"),
        _parameter("B", 0.6022245584, 0.01, 20.0, text="repulsion of two bodies"),
        _parameter("p", 4.0, 2.0, 12.0, text="power of the repulsion"),
        _parameter("q", 0.0, 0.0, 8.0, text="power of the attraction"),
        _parameter("tol", 0.0, 0.0, 0.1, text="two bodies smaller than this are left out"),
    ),
    pair_style="sw",
    pair_coeff=("pair_coeff * * model.sw <species>",),
    table=Table(file="model.sw", slot="triplet", columns=tuple(_COLUMNS)),
    cutoff="a*sigma",
    known=(
        Known(
            name="Si",
            species=("Si",),
            values={"Si_Si_Si": {"epsilon": 2.1683, "sigma": 2.0951, "lambda": 21.0}},
            citation=_SW,
        ),
        Known(
            name="mW",
            species=("bead:W",),
            # 6.189 kcal/mol
            values={"W_W_W": {"epsilon": 6.189 / 23.060549, "sigma": 2.3925, "lambda": 23.15}},
            citation="V. Molinero, E. B. Moore, J. Phys. Chem. B 113, 4008 (2009), "
            "doi:10.1021/jp805227c",
        ),
    ),
)

MW = STILLINGER_WEBER.model_copy(
    update={
        "name": "mw",
        "title": "Monatomic water, one bead a molecule (Stillinger-Weber)",
        "citation": STILLINGER_WEBER.known[-1].citation,
        "known": STILLINGER_WEBER.known[-1:],
        "species": (1, 1),
        "elements": ("bead:W",),
    }
)
