"""Embedded atoms of metals, with values of the literature."""

from __future__ import annotations

from collections.abc import Iterable

from mlcore.forcefield.forms.eam import Eam
from mlcore.forcefield.forms.record import FormParameter, Known

__all__ = ["FINNIS_SINCLAIR", "GUPTA", "ZHOU"]


def _element(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="element"
    )


def _pair(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="pair"
    )


def _whole(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="form"
    )


_ZHOU = (
    "re", "fe", "rhoe", "rhos", "alpha", "beta", "A", "B", "kappa", "lambda", "Fn0", "Fn1", "Fn2",
    "Fn3", "F0", "F1", "F2", "F3", "eta", "Fe", "cutoff",
)  # fmt: skip
_METALS = {
    "Cu": (2.556162, 1.554485, 22.150141, 22.150141, 7.669911, 4.090619, 0.327584, 0.468735,
           0.431307, 0.862140, -2.176490, -0.140035, 0.285621, -1.750834, -2.19, 0.0, 0.702991,
           0.683705, 0.921150, -2.191675, 9.0375),
    "Al": (2.886166, 1.392302, 20.226537, 20.226537, 6.942419, 3.702623, 0.251519, 0.313394,
           0.395132, 0.790264, -2.806783, -0.276173, 0.893409, -1.637201, -2.83, 0.0, 0.929508,
           -0.682320, 0.779208, -2.829437, 10.1025),
    "W": (2.740840, 3.487340, 37.234847, 37.234847, 8.900114, 4.746728, 0.882435, 1.394592,
          0.139209, 0.278417, -4.946281, -0.148818, 0.365057, -4.432406, -4.96, 0.0, 0.661935,
          0.348147, -0.582714, -4.961306, 7.8925),
}  # fmt: skip
_ZHOU_2001 = (
    "X. W. Zhou et al., Acta Mater. 49, 4005 (2001), doi:10.1016/S1359-6454(01)00287-7; "
    "form: X. W. Zhou, R. A. Johnson, H. N. G. Wadley, Phys. Rev. B 69, 144113 (2004)"
)


def _polynomial(names: Iterable[str], x: str) -> str:
    a, b, c, d = names
    return f"({a} + {x}*({b} + {x}*({c} + {x}*{d})))"


ZHOU = Eam(
    name="eam/zhou",
    title="Embedded atoms of Zhou and Johnson",
    citation=_ZHOU_2001,
    parameters=(
        _element("re", 2.556162, 2.0, 4.0, "A", "distance of nearest neighbors"),
        _element("fe", 1.554485, 0.5, 5.0, text="density a neighbor brings"),
        _element("rhoe", 22.150141, 5.0, 60.0, text="density of the crystal"),
        _element("rhos", 22.150141, 5.0, 60.0, text="scale of high densities"),
        _element("alpha", 7.669911, 4.0, 14.0, text="decay of the repulsion"),
        _element("beta", 4.090619, 2.0, 8.0, text="decay of the attraction and of the density"),
        _element("A", 0.327584, 0.01, 3.0, "eV", "repulsion"),
        _element("B", 0.468735, 0.01, 4.0, "eV", "attraction"),
        _element("kappa", 0.431307, 0.0, 1.0, text="cutoff of the repulsion"),
        _element("lambda", 0.862140, 0.0, 1.5, text="cutoff of the attraction"),
        _element("Fn0", -2.176490, -10.0, 0.0, "eV", "embedding at 0.85 rhoe"),
        _element("Fn1", -0.140035, -2.0, 2.0, "eV", "its slope"),
        _element("Fn2", 0.285621, -4.0, 4.0, "eV", "its curvature"),
        _element("Fn3", -1.750834, -8.0, 2.0, "eV", "its third coefficient"),
        _element("F0", -2.19, -10.0, 0.0, "eV", "embedding at rhoe"),
        _element("F1", 0.0, -1.0, 1.0, "eV", "its slope"),
        _element("F2", 0.702991, -2.0, 4.0, "eV", "its curvature"),
        _element("F3", 0.683705, -6.0, 6.0, "eV", "its third coefficient"),
        _element("eta", 0.921150, -2.0, 2.0, text="power of high densities"),
        _element("Fe", -2.191675, -10.0, 0.0, "eV", "embedding of high densities"),
        _element("cutoff", 9.0375, 4.0, 12.0, "A", "end of the tables; the largest counts"),
    ),
    pair_style="eam/alloy",
    definitions={
        "x": "r/re - 1",
        "attraction": "exp(-beta*x)/(1 + (x + 1 - lambda)**20)",
        "repulsion": "exp(-alpha*x)/(1 + (x + 1 - kappa)**20)",
        "low": _polynomial(("Fn0", "Fn1", "Fn2", "Fn3"), "(rho/(0.85*rhoe) - 1)"),
        "middle": _polynomial(("F0", "F1", "F2", "F3"), "(rho/rhoe - 1)"),
        "y": "(rho/rhos)**eta",
        "high": "Fe*(1 - log(y))*y",
    },
    embedding="where(rho < 0.85*rhoe, low, where(rho < 1.15*rhoe, middle, high))",
    density="fe*attraction",
    pair="A*repulsion - B*attraction",
    mixing="johnson",
    density_max="4*rhoe",
    cutoff="cutoff",
    known=tuple(
        Known(
            name=name,
            species=(name,),
            values={name: dict(zip(_ZHOU, numbers, strict=True))},
            citation=_ZHOU_2001,
        )
        for name, numbers in _METALS.items()
    ),
)

FINNIS_SINCLAIR = Eam(
    name="eam/finnis-sinclair",
    title="Embedded atoms of Finnis and Sinclair",
    citation="M. W. Finnis, J. E. Sinclair, Philos. Mag. A 50, 45 (1984), "
    "doi:10.1080/01418618408244210",
    parameters=(
        _element("A", 1.896373, 0.1, 10.0, "eV/A", "embedding"),
        _pair("d", 4.400224, 2.0, 8.0, "A", "reach of the density"),
        _pair("beta", 0.0, -2.0, 2.0, text="cubic part of the density"),
        _pair("c", 3.25, 2.0, 8.0, "A", "reach of the pair energy"),
        _pair("c0", 47.1346499, -200.0, 400.0, "eV/A^2", "pair energy"),
        _pair("c1", -33.7665655, -300.0, 100.0, "eV/A^3", "its linear part"),
        _pair("c2", 6.2541999, -50.0, 100.0, "eV/A^4", "its quadratic part"),
        _whole("density_max", 200.0, 20.0, 2000.0, "A^2", "end of the table of the embedding"),
    ),
    pair_style="eam/fs",
    embedding="-A*sqrt(rho)",
    density="where(r < d, (r - d)**2 + beta/d*(r - d)**3, 0)",
    pair="where(r < c, (r - c)**2*(c0 + r*(c1 + r*c2)), 0)",
    density_max="density_max",
    cutoff="max(c, d)",
    known=(
        Known(
            name="W",
            species=("W",),
            values={
                "W": {"A": 1.896373},
                "W_W": {
                    "d": 4.400224, "beta": 0.0, "c": 3.25, "c0": 47.1346499, "c1": -33.7665655,
                    "c2": 6.2541999,
                },
            },
        ),
    ),
)  # fmt: skip

GUPTA = Eam(
    name="eam/gupta",
    title="Embedded atoms of Gupta, Cleri and Rosato (second moment of tight binding)",
    citation="F. Cleri, V. Rosato, Phys. Rev. B 48, 22 (1993), doi:10.1103/PhysRevB.48.22",
    parameters=(
        _pair("A", 0.0855, 0.001, 1.0, "eV", "repulsion"),
        _pair("xi", 1.224, 0.1, 5.0, "eV", "hopping"),
        _pair("p", 10.96, 5.0, 20.0, text="decay of the repulsion"),
        _pair("q", 2.278, 0.5, 6.0, text="decay of the hopping"),
        _pair("r0", 2.556, 1.5, 4.5, "A", "distance of nearest neighbors"),
        _whole("inner", 2.26, 1.2, 3.5, text="begins to be cut off, in r0"),
        _whole("outer", 2.43, 1.3, 4.0, text="is cut off, in r0"),
    ),
    pair_style="eam/fs",
    definitions={
        "x": "r/r0 - 1",
        "t": "max(0, min(1, (outer - x - 1)/(outer - inner)))",
        "smooth": "t**3*(10 - 15*t + 6*t**2)",
    },
    embedding="-sqrt(rho)",
    density="xi**2*exp(-2*q*x)*smooth",
    pair="2*A*exp(-p*x)*smooth",
    density_max="1000",
    cutoff="outer*r0",
    known=(
        Known(
            name="Cu",
            species=("Cu",),
            values={"Cu_Cu": {"A": 0.0855, "xi": 1.224, "p": 10.96, "q": 2.278, "r0": 2.556}},
        ),
    ),
)
