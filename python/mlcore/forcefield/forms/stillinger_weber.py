"""Potential of Stillinger and Weber."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Table

__all__ = ["STILLINGER_WEBER"]

_COLUMNS = ["epsilon", "sigma", "a", "lambda", "gamma", "cos0", "A", "B", "p", "q", "tol"]


def _parameter(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="triplet"
    )


STILLINGER_WEBER = Form(
    name="sw",
    title="Stillinger-Weber",
    citation="F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), "
    "doi:10.1103/PhysRevB.31.5262",
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
)
