"""Forms for silicon and its compounds, and for oxides whose charges vary."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Known, Slot, Table

__all__ = ["EDIP", "STREITZ", "VASHISHTA"]

_Row = tuple[str, float, float, float, str, str]


def _parameters(slot: Slot, rows: list[_Row]) -> tuple[FormParameter, ...]:
    """Of rows of name, default, lower, upper, unit, text."""
    return tuple(
        FormParameter(
            name=name, default=value, lower=lower, upper=upper, unit=unit, text=text, slot=slot
        )
        for name, value, lower, upper, unit, text in rows
    )


_EDIP: list[_Row] = [
    ("A", 7.982173, 0.1, 100.0, "eV", "strength of two bodies"),
    ("B", 1.5075463, 0.1, 10.0, "A", "repulsion of two bodies"),
    ("cutoffA", 3.121382, 1.0, 6.0, "A", "end of the interaction"),
    ("cutoffC", 2.5609104, 0.5, 6.0, "A", "begins to be no neighbor"),
    ("alpha", 3.1083847, 0.5, 10.0, "", "decay of the coordination"),
    ("beta", 0.0070975, 0.0, 0.2, "", "bond order"),
    ("eta", 0.2523244, 0.01, 2.0, "", "strength of the angle"),
    ("gamma", 1.1247945, 0.1, 5.0, "A", "decay of three bodies"),
    ("lambda", 1.4533108, 0.0, 20.0, "eV", "strength of three bodies"),
    ("mu", 0.6966326, 0.01, 5.0, "", "decay of the angle's stiffness"),
    ("rho", 1.2085196, 0.1, 10.0, "", "power of the repulsion"),
    ("sigma", 0.5774108, 0.05, 3.0, "A", "decay of two bodies"),
    ("Q0", 312.1341346, 1.0, 2000.0, "", "stiffness of the angle"),
    ("u1", -0.165799, -1.0, 1.0, "", "best angle by coordination"),
    ("u2", 32.557, 1.0, 100.0, "", "best angle by coordination"),
    ("u3", 0.286198, 0.0, 2.0, "", "best angle by coordination"),
    ("u4", 0.66, 0.0, 3.0, "", "best angle by coordination"),
]

EDIP = Form(
    name="edip",
    title="Environment-dependent interatomic potential",
    citation="J. F. Justo et al., Phys. Rev. B 58, 2539 (1998), doi:10.1103/PhysRevB.58.2539",
    parameters=_parameters("triplet", _EDIP),
    pair_style="edip/multi",
    pair_coeff=("pair_coeff * * model.edip <species>",),
    table=Table(file="model.edip", slot="triplet", columns=tuple(row[0] for row in _EDIP)),
    cutoff="cutoffA",
    known=(
        # the defaults are these
        Known(name="Si", species=("Si",), values={"Si_Si_Si": {"A": 7.982173}}),
    ),
)

_VASHISHTA: list[_Row] = [
    ("H", 447.09026, 0.0, 1e4, "eV A^eta", "steric repulsion"),
    ("eta", 9.0, 0.0, 13.0, "", "its power"),
    ("Zi", 1.201, -4.0, 4.0, "e", "charge of the first"),
    ("Zj", 1.201, -4.0, 4.0, "e", "charge of the second"),
    ("lambda1", 5.0, 0.0, 10.0, "A", "screening of charges"),
    ("D", 7.7874, 0.0, 200.0, "eV A^4", "charge and dipole"),
    ("lambda4", 3.0, 0.0, 10.0, "A", "screening of dipoles"),
    ("W", 61.4694, 0.0, 1e4, "eV A^6", "van der Waals"),
    ("rc", 7.35, 0.0, 12.0, "A", "end of two bodies"),
    ("B", 0.0, 0.0, 100.0, "eV", "strength of three bodies"),
    ("gamma", 1.0, 0.0, 5.0, "A", "decay of three bodies"),
    ("r0", 0.0, 0.0, 6.0, "A", "end of three bodies"),
    ("C", 0.0, 0.0, 50.0, "", "saturation of three bodies"),
    ("cos0", -1 / 3, -1.0, 1.0, "", "cosine of the best angle"),
]

VASHISHTA = Form(
    name="vashishta",
    title="Vashishta",
    citation="P. Vashishta et al., Phys. Rev. B 41, 12197 (1990), doi:10.1103/PhysRevB.41.12197",
    parameters=_parameters("triplet", _VASHISHTA),
    pair_style="vashishta",
    pair_coeff=("pair_coeff * * model.vashishta <species>",),
    table=Table(
        file="model.vashishta", slot="triplet", columns=tuple(row[0] for row in _VASHISHTA)
    ),
    cutoff="max(rc, r0)",
    known=(
        Known(
            name="SiC 2007",
            species=("Si", "C"),
            values={
                "C_C_C": {
                    "H": 471.74538, "eta": 7.0, "Zi": -1.201, "Zj": -1.201, "D": 0.0, "W": 0.0,
                    "gamma": 0.0, "cos0": 0.0,
                },
                "Si_Si_Si": {
                    "H": 23.67291, "eta": 7.0, "D": 15.575, "W": 0.0, "gamma": 0.0, "cos0": 0.0,
                },
                "C_Si_Si": {
                    "Zi": -1.201, "B": 9.003, "r0": 2.9, "C": 5.0, "cos0": -0.333333333333,
                },
                "Si_C_C": {
                    "Zj": -1.201, "B": 9.003, "r0": 2.9, "C": 5.0, "cos0": -0.333333333333,
                },
            }
            | {
                key: dict.fromkeys([row[0] for row in _VASHISHTA], 0.0)
                for key in ("C_C_Si", "C_Si_C", "Si_C_Si", "Si_Si_C")
            },
            citation="P. Vashishta, R. K. Kalia, A. Nakano, J. P. Rino, J. Appl. Phys. 101, "
            "103515 (2007), doi:10.1063/1.2724570",
        ),
    ),
)  # fmt: skip

_STREITZ: list[_Row] = [
    ("chi", 0.0, -20.0, 20.0, "eV", "electronegativity"),
    ("J", 12.0, 2.0, 40.0, "eV", "hardness"),
    ("zeta", 1.0, 0.1, 5.0, "1/A", "width of the charge"),
    ("Z", 0.0, -5.0, 5.0, "e", "charge of the core"),
]

STREITZ = Form(
    name="coul/streitz",
    title="Charges that vary, of Streitz and Mintmire",
    citation="F. H. Streitz, J. W. Mintmire, Phys. Rev. B 50, 11996 (1994), "
    "doi:10.1103/PhysRevB.50.11996",
    parameters=(
        *_parameters("element", _STREITZ),
        FormParameter(
            name="gamma", default=0.0, lower=0.0, upper=1.0, unit="1/A", whole=True,
            slot="element", text="LAMMPS takes nothing but 0",
        ),
        *_parameters(
            "form",
            [
                ("cutoff", 12.0, 6.0, 15.0, "A", "no interaction beyond"),
                ("damping", 0.3, 0.05, 1.0, "1/A", "of the Wolf sum"),
            ],
        ),
    ),
    pair_style="coul/streitz {{ form.cutoff }} wolf {{ form.damping }}",
    pair_coeff=("pair_coeff * * model.streitz <species>",),
    table=Table(file="model.streitz", slot="element", columns=("chi", "J", "gamma", "zeta", "Z")),
    commands=("fix mlcore_charges all qeq/slater 1 {{ form.cutoff }} 1.0e-10 400 coul/streitz",),
    cutoff="cutoff",
    atom_style="charge",
    known=(
        Known(
            name="Al2O3",
            species=("Al", "O"),
            values={
                "Al": {"chi": 0.0, "J": 10.328655, "zeta": 0.968438, "Z": 0.763905},
                "O": {"chi": 5.484763, "J": 14.035715, "zeta": 2.143957, "Z": 0.0},
            },
        ),
    ),
)  # fmt: skip
