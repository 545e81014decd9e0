"""Validation, uncertainty, active learning and the neural route: what they must find."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from bars import Measured
from mlcore.forcefield.active import active_learning, potential_label
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.evaluate.lammps import LammpsEngine
from mlcore.forcefield.forms import model
from mlcore.forcefield.gradients import check_gradients
from mlcore.forcefield.neural import predict, train
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.structures.labels import labelled
from mlcore.forcefield.targets import Energies
from mlcore.forcefield.uncertainty import Misfit, cascade, coverage, fisher, funuq, gaussian
from mlcore.forcefield.uncertainty.cross_validation import cross_validate, hold_out, k_fold
from mlcore.forcefield.uncertainty.fisher_information import quantile
from mlcore.forcefield.uncertainty.misfit import local_fit


def overfit() -> Iterator[Measured]:
    """Stillinger-Weber fitted to Tersoff's energies and elastic constants, no forces, no vacancy."""
    fit = silicon("sw", "tersoff")
    energies, _, crystal = fit.targets
    keep = [k for k, a in enumerate(energies.structures) if a.info["name"] != "vacancy"]
    structures = [energies.structures[k] for k in keep]
    whole = [energies.reference[k] * len(energies.structures[k]) for k in keep]
    few = (Energies(structures, whole, sigma=0.02), crystal)
    for k in (3, 5, 15):
        found = [
            cross_validate(fit.model, fit.space, few, k_fold(few, k, seed), starts=3)
            for seed in range(3 if k < 15 else 1)
        ]
        least = min(one.test / one.train for one in found)
        yield Measured(f"test/train error, {k} folds, least of {len(found)}", least, least=2)
        yield Measured("  said to be overfit", float(all(v.overfit for v in found)), least=1)
    held = hold_out(fit.targets, ["forces", "vacancy"])
    one = cross_validate(fit.model, fit.space, fit.targets, held, starts=3)
    yield Measured("one fit to these, judged by forces and vacancy", one.test / one.train)
    yield Measured("  its train error, tolerances", one.train)


def sloppy() -> Iterator[Measured]:
    """Tersoff's silicon: the combination of beta, c and d that no datum feels."""
    fit = silicon("tersoff")
    with Evaluator(fit.model, fit.targets) as evaluator:
        misfit = Misfit(evaluator, fit.space, fit.targets)
        found = fisher(misfit, fit.space, fit.space.unit(fit.answer))
    named = float(set(found.sloppy_names()) == {"beta", "c", "d"})
    yield Measured("beta, c and d are named and no other", named, least=1)
    yield Measured(f"determined: {', '.join(found.determined())}", float(len(found.determined())))
    yield Measured("largest over smallest eigenvalue", found.spectrum[0] / found.spectrum[-1])


def covered() -> Iterator[Measured]:
    """50 fits of Stillinger-Weber's silicon to noisy data; truth in 90 % intervals."""
    fit = silicon("sw")
    energies, _, crystal = fit.targets
    with (
        Evaluator(fit.model, fit.targets) as evaluator,
        Evaluator(fit.model, [energies, crystal]) as others,
    ):
        found = coverage(
            Misfit(evaluator, fit.space, fit.targets),
            fit.space,
            fit.space.unit(fit.answer),
            properties=Misfit(others, fit.space, [energies, crystal]),
        )
    yield Measured("fits done", found.fits)
    yield Measured("parameters inside", found.overall, least=0.80, most=0.97)
    yield Measured("properties inside", found.of_properties, least=0.80, most=0.97)
    yield Measured("worst parameter", min(found.parameters.values()))


def carried() -> Iterator[Measured]:
    """50 noisy fits of Stillinger-Weber; a Tersoff form is fitted to each, with its uncertainty."""
    fit, form = silicon("sw"), model("tersoff", ["Si"])
    energies, _, crystal = fit.targets
    fine = Space(
        fit.model.parameters, {n: fit.space.free[n] for n in ("epsilon", "sigma", "lambda")}
    )
    free = {
        n: Free(
            lower=0.9 * form.defaults[n], upper=1.1 * form.defaults[n], initial=form.defaults[n]
        )
        for n in ("A", "lam1", "lam2")
    }
    coarse = Space(form.parameters, free)
    volumes = Energies(
        energies.structures[:5], energies.reference[:5] * 8, sigma=0.02, name="volumes"
    )
    with (
        Evaluator(fit.model, [energies, crystal]) as data,
        Evaluator(fit.model, [volumes]) as between,
        Evaluator(form, [volumes]) as again,
        Evaluator(form, [crystal]) as asked,
    ):
        misfit = Misfit(data, fine, [energies, crystal])
        coarse_misfit = Misfit(again, coarse, [volumes])

        def residuals(told):  # type: ignore[no-untyped-def]
            shift = (told.values["volumes"] - volumes.reference) / volumes.sigma
            return lambda points: coarse_misfit(points) - shift

        truth = fine.unit(fit.answer)
        best = local_fit(residuals(between([fine.values(truth)])[0]), coarse.initial)
        wanted = np.array(asked([coarse.values(best)])[0].values["diamond"])
        there, rng = misfit(truth[None])[0], np.random.default_rng(3)
        held = []
        for seed in range(50):
            shift = there + rng.normal(size=len(there))

            def noisy(points, shift=shift):  # type: ignore[no-untyped-def]
                return misfit(points) - shift

            point = local_fit(noisy, truth, tolerance=1e-8)
            members = gaussian(fisher(noisy, fine, point), 24, seed)
            made = cascade(
                members, fine, between, coarse, residuals, start=best,
                fit=lambda r, start: local_fit(r, start, tolerance=1e-6),
            )  # fmt: skip
            found = made.propagate(asked, coarse)
            held.append(np.abs(found.mean - wanted) <= quantile(0.9) * found.spread)
    yield Measured("lattice, energy, elastic constants inside", float(np.mean(held)), 0.97, 0.80)


def derivatives() -> Iterator[Measured]:
    """Forces and stress against differences of the energy, and against ASE."""
    cases = {
        "sw": ("Si", "diamond", 5.3), "tersoff": ("Si", "diamond", 5.3),
        "tersoff/mod": ("Si", "diamond", 5.3), "morse": ("Cu", "fcc", 3.5),
        "lj/cut": ("Ar", "fcc", 5.1), "eam/zhou": ("Cu", "fcc", 3.5),
    }  # fmt: skip
    for name, (symbol, lattice, a) in cases.items():
        atoms = bulk(symbol, lattice, a, cubic=True) * (2, 2, 2)
        atoms.rattle(0.05, seed=1)
        atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0.01, 0, 0.03], [0, 0, 0]]), True)
        form = model(name, [symbol])
        for engine in ("auto", "lammps"):
            found = check_gradients(
                form, form.defaults, atoms, atoms=range(0, 8), engine=engine  # type: ignore[arg-type]
            )  # fmt: skip
            worst = max(found.force_error, found.stress_error)
            yield Measured(f"{name}, {engine}: relative error of forces, stress", worst, most=1e-5)
        if name == "lj/cut":
            values = form.defaults
            atoms.calc = LennardJones(
                sigma=values["sigma"], epsilon=values["epsilon"], rc=values["cutoff"]
            )
            off = np.abs(found.stress - atoms.get_stress()).max() / np.abs(found.stress).max()
            yield Measured("lj/cut: stress beside ASE's, relative", float(off), most=1e-8)


def functional() -> Iterator[Measured]:
    """A Lennard-Jones liquid: changes of <E> and P foretold from one run, and of another run."""
    before, after = _phi(1.0, 1.0), _phi(1.03, 1.005)
    one, two = _liquid(1.0, 1.0, 1), _liquid(1.03, 1.005, 2)
    for of, was, now in (
        ("energy", one.energy, two.energy),
        ("pressure", one.pressure, two.pressure),
    ):
        told = one.change(of, lambda r: after(r) - before(r))  # type: ignore[arg-type]
        measured = float(now.mean() - was.mean())
        noise = float(np.hypot(_error(was), _error(now)))
        yield Measured(f"{of}: foretold", told)
        yield Measured(f"{of}: of another run", measured)
        yield Measured(f"{of}: apart, in standard errors", abs(told - measured) / noise, most=3)


def chosen() -> Iterator[Measured]:
    """Stillinger-Weber to Tersoff: four structures of 48, most of them alike, ten seeds."""
    tersoff, form = model("tersoff", ["Si"]), model("sw", ["Si"])
    label = potential_label(tersoff, tersoff.defaults)
    names = ("epsilon", "sigma", "lambda", "gamma", "B")
    free = {
        n: Free(
            lower=0.6 * form.defaults[n], upper=1.5 * form.defaults[n], initial=form.defaults[n]
        )
        for n in names
    }
    space = Space(form.parameters, free)
    test = [label(atoms) for atoms in _rattled(4, 20, 99)]
    last = {}
    for pick in ("random", "committee", "dopt"):
        errors = []
        for seed in range(10):
            with tempfile.TemporaryDirectory() as folder:
                run = active_learning(
                    form, space, folder, label=label, pick=pick, rounds=4, per_round=1,  # type: ignore[arg-type]
                    start=[label(atoms) for atoms in _rattled(3, 0, seed + 50)],
                    pool=_rattled(40, 8, seed), test=test, seed=seed,
                )  # fmt: skip
            errors.append([r.errors["score"] for r in run.rounds])
        median = np.median(errors, axis=0)
        last[pick] = median[-1]
        yield Measured(f"{pick}: test error before, tolerances", median[0])
        yield Measured(f"{pick}: after four labels", median[-1])
    for pick in ("committee", "dopt"):
        yield Measured(f"{pick} over random", last[pick] / last["random"], most=1)


def exported() -> Iterator[Measured]:
    """A network trained on Stillinger-Weber's silicon, run by LAMMPS from its files."""
    form = model("sw", ["Si"])
    structures = _rattled(40, 0, 7, 0.12)
    known = [
        labelled(a, float(s.energy[0]), s.forces[0], s.stress[0])
        for a, s in zip(structures, _statics(form, form.defaults, structures), strict=True)
    ]
    network = model("mliap/nn", ["Si"], options={"twojmax": 6, "layers": [16, 1]})
    found = train(network, known[:30], iterations=400)
    yield Measured("energy error of training, eV/atom", found.errors["energy"])
    yield Measured("force error of training, eV/A", found.errors["forces"])
    told = predict(network, found.values, known[30:])
    there = _statics(network, found.values, known[30:])
    energy = max(abs(t[0] - s.energy[0]) for t, s in zip(told, there, strict=True))
    force = max(np.abs(t[1] - s.forces[0]).max() for t, s in zip(told, there, strict=True))
    yield Measured("LAMMPS - torch, eV", float(energy), most=1e-8)
    yield Measured("LAMMPS - torch, eV/A", float(force), most=1e-8)
    off = np.concatenate(
        [(s.forces[0] - a.get_forces()).ravel() for s, a in zip(there, known[30:], strict=True)]
    )
    yield Measured("force error held out, eV/A", float(np.sqrt(np.mean(off**2))))
    checked = check_gradients(network, found.values, known[30], atoms=range(8), engine="lammps")
    worst = max(checked.force_error, checked.stress_error)
    yield Measured("relative error of forces, stress", worst, most=1e-5)


def _rattled(calm: int, wild: int, seed: int, size: float = 0.05) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(calm + wild):
        atoms = bulk("Si", "diamond", 5.43, cubic=True)
        moved, strain = (size, 0.01) if k < calm else (0.3, 0.08)
        atoms.positions += rng.normal(0, moved, atoms.positions.shape)
        atoms.set_cell(atoms.cell * (1 + rng.uniform(-strain, strain)), scale_atoms=True)
        found.append(atoms)
    return [found[k] for k in rng.permutation(len(found))]


def _statics(form, values, structures):  # type: ignore[no-untyped-def]
    engine = LammpsEngine(form, 12.0)
    engine.use(values)
    found = [engine.at_rest(atoms) for atoms in structures]
    engine.close()
    return found


def _phi(epsilon: float, sigma: float, cutoff: float = 2.3) -> funuq.PairFunction:
    def phi(r: np.ndarray) -> np.ndarray:
        near = np.maximum(np.asarray(r, dtype=float), 0.3)
        s, c = (sigma / near) ** 6, (sigma / cutoff) ** 6
        return np.where(near < cutoff, 4 * epsilon * (s * s - s - c * c + c), 0.0)

    return phi


def _liquid(epsilon: float, sigma: float, seed: int, steps: int = 60000) -> funuq.PairEnsemble:
    lmp = new_lammps()
    script = f"""units lj
atom_modify map array sort 0 0
lattice fcc 0.8
region all block 0 3 0 3 0 3
create_box 1 all
create_atoms 1 box
mass 1 1.0
pair_style lj/cut 2.3
pair_coeff 1 1 {epsilon} {sigma}
pair_modify shift yes
velocity all create 1.2 {seed} loop geom
neighbor 0.3 bin
fix nve all nve
fix bath all langevin 1.2 1.2 0.5 {seed}
timestep 0.005
run 3000 post no"""
    for line in script.splitlines():
        lmp.command(line)
    edge = (108 / 0.8) ** (1 / 3)
    frames = []
    for _ in range(steps // 20):
        lmp.command("run 20 post no")
        places = lmp.numpy.extract_atom("x")[:108].copy()
        frames.append(Atoms("Ar108", positions=places, cell=[edge] * 3, pbc=True))
    lmp.close()
    return funuq.pair_ensemble(frames, _phi(epsilon, sigma), 1.2, cutoff=2.3)


def _error(values: np.ndarray) -> float:
    blocks = [block.mean() for block in np.array_split(values, 20)]
    return float(np.std(blocks, ddof=1) / np.sqrt(len(blocks)))


bars = {
    "cross-validation finds overfit": overfit,
    "sloppy directions by name": sloppy,
    "intervals hold the truth": covered,
    "errors go along to a coarser model": carried,
    "forces and stress are derivatives": derivatives,
    "functional derivatives of averages": functional,
    "active learning against chance": chosen,
    "network in LAMMPS": exported,
}
