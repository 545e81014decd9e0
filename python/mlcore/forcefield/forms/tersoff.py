"""Bond-order potential of Tersoff."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Known, Table

__all__ = ["ML_BOP", "TERSOFF", "TERSOFF_MOD"]

_COLUMNS = ["m", "gamma", "lam3", "c", "d", "cos0", "n", "beta", "lam2", "B", "R", "D", "lam1", "A"]


def _parameter(
    name: str,
    default: float,
    lower: float,
    upper: float,
    unit: str = "",
    scale: str = "linear",
    text: str = "",
    whole: bool = False,
) -> FormParameter:
    return FormParameter.model_validate(
        {"name": name, "default": default, "lower": lower, "upper": upper, "unit": unit,
         "scale": scale, "text": text, "whole": whole, "slot": "triplet"}
    )  # fmt: skip


_T1989 = "J. Tersoff, Phys. Rev. B 39, 5566 (1989), doi:10.1103/PhysRevB.39.5566"

_SI = {
    "c": 1.0039e5, "d": 16.217, "cos0": -0.59825, "n": 0.78734, "beta": 1.1e-6, "lam2": 1.7322,
    "B": 471.18, "R": 2.85, "D": 0.15, "lam1": 2.4799, "A": 1830.8,
}  # fmt: skip
# as LAMMPS' SiC.tersoff has it
_SI_T3 = _SI | {"lam2": 1.73222}
_C = {
    "c": 38049.0, "d": 4.3484, "cos0": -0.57058, "n": 0.72751, "beta": 1.5724e-7, "lam2": 2.2119,
    "B": 346.74, "R": 1.95, "D": 0.15, "lam1": 3.4879, "A": 1393.6,
}  # fmt: skip
_GE = {
    "c": 1.0643e5, "d": 15.652, "cos0": -0.43884, "n": 0.75627, "beta": 9.0166e-7, "lam2": 1.7047,
    "B": 419.23, "R": 2.95, "D": 0.15, "lam1": 2.4451, "A": 1769.0,
}  # fmt: skip


def _mixed(
    a: str, of_a: dict[str, float], b: str, of_b: dict[str, float], between: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    """Rows of two elements from those of each and what is between them.

    Args:
        between: lam2, B (with chi), R, D, lam1, A.
    """
    pair = dict(zip(("lam2", "B", "R", "D", "lam1", "A"), between, strict=True))
    none = dict.fromkeys(("beta", "lam2", "B", "lam1", "A"), 0.0)
    reach = {"R": pair["R"], "D": pair["D"]}
    own = {a: of_a, b: of_b}
    rows: dict[str, dict[str, float]] = {}
    for x, y in ((a, b), (b, a)):
        rows |= {
            f"{x}_{x}_{x}": own[x],
            f"{x}_{y}_{y}": own[x] | pair,
            f"{x}_{x}_{y}": own[x] | none | reach,
            f"{x}_{y}_{x}": own[x] | none,
        }
    return rows


TERSOFF = Form(
    name="tersoff",
    title="Tersoff bond order",
    citation=_T1989,
    parameters=(
        _parameter("m", 3.0, 1.0, 3.0, whole=True, text="power of lam3 (r_ij - r_ik)"),
        _parameter("gamma", 1.0, 0.01, 10.0, text="strength of the angle"),
        _parameter("lam3", 0.0, 0.0, 5.0, "1/A", text="lambda_3"),
        _parameter("c", 1.0039e5, 1e-2, 1e7, scale="log", text="width of the angle's well"),
        _parameter("d", 16.217, 1e-2, 1e3, scale="log", text="sharpness of the angle's well"),
        _parameter("cos0", -0.59825, -1.0, 1.0, text="cosine of the best angle, h"),
        _parameter("n", 0.78734, 0.1, 40.0, scale="log", text="power of the bond order"),
        _parameter("beta", 1.1e-6, 1e-12, 10.0, "", "log", "strength of the bond order"),
        _parameter("lam2", 1.73222, 0.1, 10.0, "1/A", text="decay of the attraction, lambda_2"),
        _parameter("B", 471.18, 1e-3, 1e5, "eV", "log", "attraction"),
        _parameter("R", 2.85, 0.5, 6.0, "A", text="middle of the cutoff"),
        _parameter("D", 0.15, 0.01, 2.0, "A", text="half width of the cutoff"),
        _parameter("lam1", 2.4799, 0.1, 15.0, "1/A", text="decay of the repulsion, lambda_1"),
        _parameter("A", 1830.8, 1e-2, 1e6, "eV", "log", "repulsion"),
    ),
    pair_style="tersoff",
    pair_coeff=("pair_coeff * * model.tersoff <species>",),
    table=Table(file="model.tersoff", slot="triplet", columns=tuple(_COLUMNS)),
    cutoff="R + D",
    known=(
        Known(name="Si T3", species=("Si",), values={"Si_Si_Si": _SI_T3}, citation=_T1989),
        Known(name="C", species=("C",), values={"C_C_C": _C | {"B": 346.7}}, citation=_T1989),
        Known(name="Ge", species=("Ge",), values={"Ge_Ge_Ge": _GE}, citation=_T1989),
        Known(
            name="SiC 1989",
            species=("Si", "C"),
            values=_mixed("Si", _SI, "C", _C, (1.97205, 395.1451, 2.3573, 0.1527, 2.9839, 1597.3111)),
            citation=_T1989,
        ),
        Known(
            name="SiGe 1989",
            species=("Si", "Ge"),
            values=_mixed("Si", _SI, "Ge", _GE, (1.71845, 444.7177, 2.8996, 0.15, 2.4625, 1799.6347)),
            citation=_T1989,
        ),
        Known(
            name="Si 1988",
            species=("Si",),
            values={
                "Si_Si_Si": {
                    "lam3": 1.3258, "c": 4.8381, "d": 2.0417, "cos0": 0.0, "n": 22.956,
                    "beta": 0.33675, "lam2": 1.3258, "B": 95.373, "R": 3.0, "D": 0.2,
                    "lam1": 3.2394, "A": 3264.7,
                }
            },
            citation="J. Tersoff, Phys. Rev. B 37, 6991 (1988), doi:10.1103/PhysRevB.37.6991",
        ),
        Known(
            name="Ge germanene",
            species=("Ge",),
            values={
                "Ge_Ge_Ge": _GE
                | {"d": 15.2, "cos0": -0.35, "beta": 5.017e-7, "lam2": 1.71, "B": 430.0, "A": 1760.1}
            },
            citation="S. J. Mahdizadeh, G. Akhlamadi, J. Mol. Graph. Model. 72, 1 (2017), "
            "doi:10.1016/j.jmgm.2016.11.009",
        ),
        Known(
            name="ML-BOP",
            species=("bead:W",),
            values={
                "W_W_W": {
                    "m": 1.0, "gamma": 1.0, "lam3": 0.0, "c": 77638.534354, "d": 16.148387,
                    "cos0": -0.471029, "n": 0.770018, "beta": 1e-6, "lam2": 2.199640,
                    "B": 473.621419, "R": 3.282761, "D": 0.270511, "lam1": 2.750522,
                    "A": 1684.301476,
                }
            },
            citation="H. Chan et al., Nat. Commun. 10, 379 (2019), doi:10.1038/s41467-018-08222-6",
        ),
    ),
)  # fmt: skip

ML_BOP = TERSOFF.model_copy(
    update={
        "name": "ml-bop",
        "title": "Coarse-grained water, one bead a molecule (Tersoff)",
        "citation": TERSOFF.known[-1].citation,
        "known": TERSOFF.known[-1:],
        "species": (1, 1),
        "elements": ("bead:W",),
    }
)

_MOD = [
    "beta", "alpha", "h", "eta", "beta_ters", "lam2", "B", "R", "D", "lam1", "A", "n",
    "c1", "c2", "c3", "c4", "c5",
]  # fmt: skip

TERSOFF_MOD = Form(
    name="tersoff/mod",
    title="Tersoff, modified for the liquid",
    citation="T. Kumagai, S. Izumi, S. Hara, S. Sakai, Comput. Mater. Sci. 39, 457 (2007), "
    "doi:10.1016/j.commatsci.2006.07.013",
    parameters=(
        _parameter("beta", 1.0, 1.0, 3.0, whole=True, text="power of alpha (r_ij - r_ik)"),
        _parameter("alpha", 2.3890327, 0.0, 10.0, "1/A", text="weight of near third atoms"),
        _parameter("h", -0.365, -1.0, 1.0, text="cosine of the best angle"),
        _parameter("eta", 1.0, 0.1, 5.0, text="power of the strength of the angle"),
        _parameter("beta_ters", 1.0, 0.5, 2.0, text="strength of the bond order; 1 in the paper"),
        _parameter("lam2", 1.345797, 0.1, 10.0, "1/A", text="decay of the attraction"),
        _parameter("B", 121.00047, 1e-3, 1e5, "eV", "log", "attraction"),
        _parameter("R", 3.0, 0.5, 6.0, "A", text="middle of the cutoff"),
        _parameter("D", 0.3, 0.01, 2.0, "A", text="half width of the cutoff"),
        _parameter("lam1", 3.2300135, 0.1, 15.0, "1/A", text="decay of the repulsion"),
        _parameter("A", 3281.5905, 1e-2, 1e6, "eV", "log", "repulsion"),
        _parameter("n", 0.93810551, 0.1, 40.0, scale="log", text="1/(2 delta)"),
        _parameter("c1", 0.20173476, 0.0, 10.0, text="the angle's share at its best"),
        _parameter("c2", 730418.72, 1.0, 1e8, "", "log", "weight of the angle"),
        _parameter("c3", 1e6, 1.0, 1e9, "", "log", "where the angle's weight levels off"),
        _parameter("c4", 1.0, 0.0, 10.0, text="extra weight of small deviations"),
        _parameter("c5", 26.0, 0.0, 200.0, text="width of that extra weight"),
    ),
    pair_style="tersoff/mod",
    pair_coeff=("pair_coeff * * model.tersoff.mod <species>",),
    table=Table(file="model.tersoff.mod", slot="triplet", columns=tuple(_MOD)),
    cutoff="R + D",
    known=(
        # the defaults are these
        Known(name="Si", species=("Si",), values={"Si_Si_Si": {"n": 0.93810551}}),
    ),
)
