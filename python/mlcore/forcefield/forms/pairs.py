"""Forms of two bodies, told by one ``pair_coeff`` for each pair."""

from __future__ import annotations

from mlcore.forcefield.forms.record import Form, FormParameter, Known

__all__ = ["BUCK", "BUCK_COUL_LONG", "LJ_CUT", "LJ_CUT_COUL_LONG", "MORSE", "ZBL"]


def _of_pair(
    name: str,
    default: float,
    lower: float,
    upper: float,
    unit: str = "",
    scale: str = "linear",
    text: str = "",
) -> FormParameter:
    return FormParameter.model_validate(
        {"name": name, "default": default, "lower": lower, "upper": upper, "unit": unit,
         "scale": scale, "text": text, "slot": "pair"}
    )  # fmt: skip


_CUTOFF = _of_pair("cutoff", 10.0, 2.0, 15.0, "A", text="no interaction beyond")
_EPSILON = _of_pair("epsilon", 0.01, 1e-6, 20.0, "eV", "log", "depth of the well")
_SIGMA = _of_pair("sigma", 3.0, 0.2, 10.0, "A", text="distance where the energy is zero")
_A = _of_pair("A", 1000.0, 1e-2, 1e6, "eV", "log", "repulsion")
_RHO = _of_pair("rho", 0.3, 0.05, 2.0, "A", text="decay of the repulsion")
_C = _of_pair("C", 0.0, 0.0, 1e5, "eV A^6", text="attraction")
_CHARGE = FormParameter(
    name="charge", default=1.0, lower=-4.0, upper=4.0, unit="e", text="charge", slot="element"
)
_REAL_SPACE = FormParameter(
    name="coul_cutoff", default=10.0, lower=5.0, upper=15.0, unit="A",
    text="charges interact in reciprocal space beyond",
)  # fmt: skip
_ACCURACY = FormParameter(
    name="accuracy", default=1e-6, lower=1e-10, upper=1e-3, scale="log",
    text="error of the forces of the Ewald sum, relative to that of two charges at 1 A",
)  # fmt: skip
_TABLE = FormParameter(
    name="table", default=0, lower=0, upper=16, whole=True,
    text="bits of LAMMPS' tables of the forces of charges, which jump under strain; 0: no tables",
)  # fmt: skip
_CHARGES = (
    "pair_modify table {{ form.table }}",
    "{% for e in elements %}\nset type {{ e.type }} charge {{ e.charge }}\n{% endfor %}",
    "kspace_style ewald {{ form.accuracy }}",
)

LJ_CUT = Form(
    name="lj/cut",
    title="Lennard-Jones, cut off",
    citation="J. E. Lennard-Jones, Proc. Phys. Soc. 43, 461 (1931), doi:10.1088/0959-5309/43/5/301",
    parameters=(_EPSILON, _SIGMA, _CUTOFF),
    pair_style="lj/cut",
    style_numbers=("cutoff",),
    coefficients=("epsilon", "sigma", "cutoff"),
    cutoff="cutoff",
    known=(
        Known(
            name="Ar",
            species=("Ar",),
            values={"Ar_Ar": {"epsilon": 0.0104, "sigma": 3.40, "cutoff": 8.5}},
            citation="A. Rahman, Phys. Rev. 136, A405 (1964), doi:10.1103/PhysRev.136.A405",
        ),
    ),
)

MORSE = Form(
    name="morse",
    title="Morse",
    citation="P. M. Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57",
    parameters=(
        _of_pair("D0", 0.3, 1e-4, 20.0, "eV", "log", "depth of the well"),
        _of_pair("alpha", 1.4, 0.1, 10.0, "1/A", text="width of the well"),
        _of_pair("r0", 2.9, 0.5, 8.0, "A", text="distance of the well's bottom"),
        _CUTOFF,
    ),
    pair_style="morse",
    style_numbers=("cutoff",),
    coefficients=("D0", "alpha", "r0", "cutoff"),
    cutoff="cutoff",
    known=(
        Known(
            name="Cu",
            species=("Cu",),
            values={"Cu_Cu": {"D0": 0.3429, "alpha": 1.3588, "r0": 2.866}},
            citation="L. A. Girifalco, V. G. Weizer, Phys. Rev. 114, 687 (1959), "
            "doi:10.1103/PhysRev.114.687",
        ),
    ),
)

BUCK = Form(
    name="buck",
    title="Buckingham",
    citation="R. A. Buckingham, Proc. R. Soc. A 168, 264 (1938), doi:10.1098/rspa.1938.0173",
    parameters=(_A, _RHO, _C, _CUTOFF),
    pair_style="buck",
    style_numbers=("cutoff",),
    coefficients=("A", "rho", "C", "cutoff"),
    cutoff="cutoff",
)

BUCK_COUL_LONG = Form(
    name="buck/coul/long",
    title="Buckingham with charges, Ewald sum",
    citation=BUCK.citation,
    parameters=(_A, _RHO, _C, _CUTOFF, _CHARGE, _REAL_SPACE, _ACCURACY, _TABLE),
    pair_style="buck/coul/long",
    style_numbers=("cutoff", "coul_cutoff"),
    coefficients=("A", "rho", "C", "cutoff"),
    commands=_CHARGES,
    cutoff="max(cutoff, coul_cutoff)",
    atom_style="charge",
    known=(
        Known(
            name="BKS",
            species=("Si", "O"),
            values={
                "Si": {"charge": 2.4},
                "O": {"charge": -1.2},
                "Si_Si": {"A": 0.0, "rho": 1.0, "C": 0.0},
                "Si_O": {"A": 18003.7572, "rho": 1 / 4.87318, "C": 133.5381},
                "O_O": {"A": 1388.7730, "rho": 1 / 2.76, "C": 175.0},
            },
            citation="B. W. H. van Beest, G. J. Kramer, R. A. van Santen, Phys. Rev. Lett. 64, "
            "1955 (1990), doi:10.1103/PhysRevLett.64.1955",
        ),
    ),
)

LJ_CUT_COUL_LONG = Form(
    name="lj/cut/coul/long",
    title="Lennard-Jones with charges, Ewald sum",
    citation=LJ_CUT.citation,
    parameters=(_EPSILON, _SIGMA, _CUTOFF, _CHARGE, _REAL_SPACE, _ACCURACY, _TABLE),
    pair_style="lj/cut/coul/long",
    style_numbers=("cutoff", "coul_cutoff"),
    coefficients=("epsilon", "sigma", "cutoff"),
    commands=_CHARGES,
    cutoff="max(cutoff, coul_cutoff)",
    atom_style="charge",
    known=(
        Known(
            name="TIP3P",
            species=("O", "H"),
            # 0.1521 kcal/mol; pairs within a molecule are for its bonds, which no form describes
            values={
                "O": {"charge": -0.834},
                "H": {"charge": 0.417},
                "O_O": {"epsilon": 0.1521 / 23.060549, "sigma": 3.1507},
                "O_H": {"epsilon": 0.0, "sigma": 1.0},
                "H_H": {"epsilon": 0.0, "sigma": 1.0},
            },
            citation="W. L. Jorgensen et al., J. Chem. Phys. 79, 926 (1983), doi:10.1063/1.445869",
        ),
    ),
)

ZBL = Form(
    name="zbl",
    title="Repulsion of nuclei, Ziegler-Biersack-Littmark",
    citation="J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in "
    "Matter (1985)",
    parameters=(
        FormParameter(
            name="inner", default=1.0, lower=0.2, upper=5.0, unit="A", text="begins to be damped"
        ),
        FormParameter(
            name="outer", default=2.0, lower=0.3, upper=6.0, unit="A", text="is damped to zero"
        ),
    ),
    pair_style="zbl {{ form.inner }} {{ form.outer }}",
    pair_coeff=(
        "{% for e in elements %}{% for f in elements %}{% if e.type <= f.type %}"
        "pair_coeff {{ e.type }} {{ f.type }} {{ e.number }} {{ f.number }}\n"
        "{% endif %}{% endfor %}{% endfor %}",
    ),
    cutoff="outer",
)
