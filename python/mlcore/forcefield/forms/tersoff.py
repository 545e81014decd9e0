"""Bond-order potential of Tersoff."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Table

__all__ = ["TERSOFF"]

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


TERSOFF = Form(
    name="tersoff",
    title="Tersoff bond order",
    citation="J. Tersoff, Phys. Rev. B 39, 5566 (1989), doi:10.1103/PhysRevB.39.5566",
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
    known={
        "Si_Si_Si": {
            "c": 1.0039e5, "d": 16.217, "cos0": -0.59825, "n": 0.78734, "beta": 1.1e-6,
            "lam2": 1.73222, "B": 471.18, "R": 2.85, "D": 0.15, "lam1": 2.4799, "A": 1830.8,
        },
        "C_C_C": {
            "c": 38049.0, "d": 4.3484, "cos0": -0.57058, "n": 0.72751, "beta": 1.5724e-7,
            "lam2": 2.2119, "B": 346.7, "R": 1.95, "D": 0.15, "lam1": 3.4879, "A": 1393.6,
        },
    },
)  # fmt: skip
