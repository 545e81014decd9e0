"""fix mlcore force: tables against LAMMPS' own styles, torch models against Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from written_bundles import CUTOFF, NEIGHBORS, ManyBody

LATTICE = 1.2


def lattice(n: int, shake: float = 0.1, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return np.asarray(grid * LATTICE + 0.3 + rng.uniform(-shake, shake, (n**3, 3)))


def box(length: float) -> tuple[float, ...]:
    return (0, length) * 3


def head(thermo: str = "pe", boundary: str = "p p p", skin: float = 0.3) -> str:
    return (
        f"units lj\natom_style atomic\nboundary {boundary}\natom_modify map array\n"
        f"read_data atoms.data\nneighbor {skin} bin\nneigh_modify every 1 delay 0 check yes\n"
        f"timestep 0.002\nthermo 20\n" + watch(thermo)
    )


def watch(thermo: str) -> str:
    return f"thermo_style custom step {thermo}\nthermo_modify format float %.17g norm no\n"


DUMP = (
    "dump d all custom 20 out.dump id xu yu zu vx vy vz fx fy fz\n"
    'dump_modify d sort id format float "%.17g"\n'
)
FORCE = "fix m all mlcore force {} {}\nfix_modify m energy yes virial yes\n"
STRESS = "pe etotal press pxx pyy pzz pxy pxz pyz"
TRICLINIC = (2.4, -1.2, 1.8)


def thermo(output: str) -> Array:
    """Numbers of all thermo lines of the last run."""
    block = output.rsplit("   Step ", 1)[1].split("Loop time")[0].splitlines()[1:]
    return np.array([[float(word) for word in line.split()] for line in block if line.strip()])


def force(bundle: str, words: str = "") -> str:
    return FORCE.format(bundle, words)


def fails(case: Case, script: str, *words: str, ranks: int = 1) -> None:
    outcome = case.lmp(script, ranks)
    flat = " ".join(outcome.output.split())
    assert outcome.status == 1, outcome.output[-2000:]
    for word in words:
        assert word in flat, outcome.output[-2000:]


# -- pair tables ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("ranks", "tilt"), [(1, ()), (2, TRICLINIC), (3, ()), (4, TRICLINIC)])
def test_a_table_is_lennard_jones(case: Case, ranks: int, tilt: tuple[float, ...]) -> None:
    case.atoms(lattice(6), box(7.2), tilt)
    bundles.pair_table(case.folder / "lj")
    run = "fix i all nve\n" + DUMP + "run 100\n"
    lj = f"pair_style lj/cut {CUTOFF}\npair_coeff 1 1 1 1\n"
    expected = thermo(case.ok(head(STRESS) + lj + run, ranks))
    frames = case.dump()
    found = thermo(case.ok(head(STRESS) + force("lj") + run, ranks))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    scale = np.abs(frames[0][:, 7:]).max()
    np.testing.assert_allclose(case.dump()[0][:, 7:], frames[0][:, 7:], atol=1e-10 * scale)
    drift = found[:, 2] - found[0, 2]
    np.testing.assert_allclose(drift, expected[:, 2] - expected[0, 2], atol=1e-8)


def test_two_types_and_a_committee(case: Case) -> None:
    x, types = lattice(5), [1 + i % 2 for i in range(125)]
    case.atoms(x, box(6.0), types=types)
    one, two = (1.0, 0.5, 2.0), (1.2, 0.7, 1.6)
    bundles.pair_table(case.folder / "lj", [one, two])
    script = head() + DUMP + force("lj")
    script += watch("pe press f_m f_m[1] f_m[2] f_m[3] f_m[4]")
    script += "dump s all custom 1 spread.dump id f_m\ndump_modify s sort id format float %.17g\n"
    frames, energies = [], []
    for member in (one, two, tuple(np.mean([one, two], axis=0))):
        lj = f"pair_style lj/cut {CUTOFF}\n" + "".join(
            f"pair_coeff {a} {b} {e} 1\n"
            for (a, b), e in zip([(1, 1), (1, 2), (2, 2)], member, strict=True)
        )
        energies.append(thermo(case.ok(head("pe press") + lj + DUMP + "run 0\n"))[0])
        frames.append(case.dump()[0][:, 7:])
    found = thermo(case.ok(script + "run 0\n", 2))[0]
    spread = np.sqrt(((np.array(frames[:2]) - frames[2]) ** 2).sum(2).mean(0))
    np.testing.assert_allclose(found[1:3], energies[2][1:], rtol=1e-10)
    np.testing.assert_allclose(found[3:5], energies[2][1], rtol=1e-10)
    np.testing.assert_allclose(found[5:7], [spread.max(), spread.mean()], rtol=1e-8)
    np.testing.assert_allclose(found[7], np.std([e[1] for e in energies[:2]]), rtol=1e-8)
    np.testing.assert_allclose(case.dump()[0][:, 7:], frames[2], atol=1e-9)
    np.testing.assert_allclose(case.dump("spread.dump")[0][:, 1], spread, atol=1e-9)


def test_only_members_of_the_group_interact(case: Case) -> None:
    x = lattice(5)
    case.atoms(x, box(6.0), types=[1 + i % 2 for i in range(125)])
    bundles.pair_table(case.folder / "lj", [(1.0, 1.0, 1.0)])
    fix = "group one type 1\nfix m one mlcore force lj\nfix_modify m energy yes virial yes\n"
    found = thermo(case.ok(head("pe press") + fix + DUMP + "run 0\n", 2))[0]
    frame = case.dump()[0]
    lj = f"pair_style hybrid lj/cut {CUTOFF}\npair_coeff 1 1 lj/cut 1 1\n"
    lj += "pair_coeff 1 2 none\npair_coeff 2 2 none\n"
    expected = thermo(case.ok(head("pe press") + lj + DUMP + "run 0\n"))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(frame[:, 7:], case.dump()[0][:, 7:], atol=1e-9)
    assert not frame[1::2, 7:].any()


def test_minimize(case: Case) -> None:
    """Four atoms become a tetrahedron, whose six bonds have energy -1 each."""
    x = np.array([[4.0, 4, 4], [5.1, 4.2, 4], [4.4, 5.2, 3.9], [4.3, 4.4, 5.3]])
    case.atoms(x, box(10.0))
    bundles.pair_table(case.folder / "lj", first=0.5)
    start = head("pe fmax", "f f f")
    for style in ("cg", "fire"):
        run = f"min_style {style}\nminimize 0 1e-9 5000 50000\n"
        found = thermo(case.ok(start + force("lj") + run, 2))[-1]
        np.testing.assert_allclose(found[1:], [-6, 0], atol=1e-7)
    fails(case, start + "fix m all mlcore force lj\n" + run.replace("fire", "cg"),
          "fix mlcore m", "fix_modify m energy yes")  # fmt: skip


def test_restart_and_split_runs(case: Case) -> None:
    case.atoms(lattice(5), box(6.0))
    bundles.pair_table(case.folder / "lj")
    start = head("pe etotal press") + force("lj") + "fix i all nve\n"
    whole = thermo(case.ok(start + "run 80\n"))[-1]
    split = "run 40\nwrite_restart half.restart\nreset_timestep 40\nrun 40\n"
    np.testing.assert_allclose(thermo(case.ok(start + split))[-1], whole, rtol=1e-11)
    again = start.replace("read_data atoms.data", "read_restart half.restart")
    np.testing.assert_allclose(thermo(case.ok(again + "run 40\n", 2))[-1], whole, rtol=1e-9)


# -- torch ----------------------------------------------------------------------------------------
def many_body(folder: Path, strengths: Sequence[float] = (1.0,), **told: Any) -> None:
    model = {**NEIGHBORS, **told}
    single = model.get("dtype") == "float32"
    scripts: list[torch.nn.Module] = [
        ManyBody(s, types=model.get("types", 1)).to(torch.float32 if single else torch.float64)
        for s in strengths
    ]
    examples = bundles.neighbor_examples(torch.float32 if single else torch.float64)
    bundles.write(folder, "force", model, scripts=scripts, examples=examples)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_many_body_is_that_of_python(
    case: Case, ranks: int, dtype: str, tolerance: float, device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device, or a torch without CUDA")
    x, tilt = lattice(5), TRICLINIC
    types = [1 + i % 3 % 2 for i in range(125)]
    case.atoms(x, box(6.0), tilt, types=types)
    many_body(case.folder / "many", dtype=dtype, types=2)
    cell = np.array([[6.0, 0, 0], [tilt[0], 6.0, 0], [tilt[1], tilt[2], 6.0]])
    model = ManyBody(types=2)
    energy, forces, virial = bundles.energy_and_forces(model, x, cell, [t - 1 for t in types])
    fix = force("many", f"device {device}")
    thermos = thermo(case.ok(head(STRESS) + fix + DUMP + "run 0\n", ranks))[0]
    found = case.dump()[0][:, 7:]
    scale = np.abs(forces).max()
    np.testing.assert_allclose(found, forces, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(thermos[1], energy, rtol=tolerance * 5)
    pressure = virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]] / 216.0
    np.testing.assert_allclose(thermos[4:], pressure, atol=5 * tolerance * np.abs(pressure).max())


def test_committee_of_many_body_models(case: Case) -> None:
    x, strengths = lattice(4), [0.8, 1.0, 1.3]
    case.atoms(x, box(4.8))
    many_body(case.folder / "many", strengths)
    members = [bundles.energy_and_forces(ManyBody(s), x, 4.8 * np.eye(3)) for s in strengths]
    forces = np.array([f for _, f, _ in members])
    spread = np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0))
    script = head() + force("many") + watch("f_m f_m[2] f_m[3] f_m[4]") + DUMP + "run 0\n"
    found = thermo(case.ok(script, 2))
    energies = [e for e, _, _ in members]
    expected = [np.mean(energies), spread.max(), spread.mean(), np.std(energies)]
    np.testing.assert_allclose(found[0, 1:], expected, rtol=1e-11)
    np.testing.assert_allclose(case.dump()[0][:, 7:], forces.mean(0), atol=1e-12)


def test_a_compiled_model_is_the_scripted_one(case: Case) -> None:
    from mlcore.export import Contract, write_model
    from mlcore.networks.many_body import ManyBodyEnergy

    x = lattice(5)
    case.atoms(x, box(6.0))
    torch.manual_seed(0)
    network = ManyBodyEnergy(CUTOFF, channels=2, centres=5, hidden=(8,)).double()
    write_model(
        case.folder / "b",
        Contract("force", "neighbors", "energy", cutoff=CUTOFF),
        network,
        compiled=True,
    )
    outputs = {}
    for engine in ("torchscript", "compiled"):
        script = head(STRESS) + force("b", f"engine {engine}") + "fix i all nve\n" + DUMP
        outputs[engine] = thermo(case.ok(script + "run 20\n", 2)), case.dump()[-1]
    assert np.abs(outputs["compiled"][1][:, 7:]).max() > 0
    for a, b in zip(outputs["compiled"], outputs["torchscript"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    choice = case.ok(head() + force("b") + "run 0\n")
    assert "engine compiled" in choice


def test_compiled_for_another_machine(case: Case) -> None:
    case.atoms(lattice(3), box(3.6))
    for name, told in (
        ("torch", {"torch": "1.0.0", "instruction_set": "baseline", "device": "cpu"}),
        ("gpu", {"torch": torch.__version__, "instruction_set": "baseline", "device": "cuda"}),
    ):
        bundles.write(
            case.folder / name, "force", NEIGHBORS, compiled=told, packages=[b"not a package"]
        )
        fails(case, head() + force(name), f"mlcore export rebuild {name}", "fix mlcore m")
    told = {"torch": torch.__version__, "instruction_set": "baseline", "device": "cpu"}
    bundles.write(case.folder / "bad", "force", NEIGHBORS, compiled=told, packages=[b"no package"])
    fails(case, head() + force("bad"), "model_0.pt2", "mlcore export rebuild bad", ranks=2)


# -- models of single atoms and of the whole group ------------------------------------------------
class Trap(torch.nn.Module):
    """Energy of an atom in a field, by kind."""

    def forward(self, x: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return (1 + types) * (torch.sin(x) + 0.5 * x * x).sum(1)


class Chain(torch.nn.Module):
    """Energy of the whole group, which depends on the order of the atoms."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x[1:] - x[:-1]) ** 2).sum() + (x[0] ** 4).sum()


class Drag(torch.nn.Module):
    def forward(self, v: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return -(1 + time) * v * (1 + (v * v).sum(1, keepdim=True))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_atoms_and_configurations(case: Case, ranks: int) -> None:
    x = lattice(3)
    types = [1 + i % 2 for i in range(27)]
    case.atoms(x, box(3.6), types=types)
    t = torch.tensor(x, requires_grad=True)
    kinds = torch.tensor(types) - 1
    told = {"sees": "atoms", "gives": "energy", "inputs": ["x", "types"], "types": 2}
    bundles.write(
        case.folder / "trap", "force", told, scripts=[Trap()], examples=(t.detach(), kinds)
    )
    told = {"sees": "configuration", "gives": "energy", "inputs": ["x"], "particles": 27}
    bundles.write(case.folder / "chain", "force", told, scripts=[Chain()], examples=(t.detach(),))
    energy = Trap()(t, kinds).sum() + Chain()(t)
    (gradient,) = torch.autograd.grad(energy, t)
    fixes = "fix a all mlcore force trap\nfix b all mlcore force chain\n"
    fixes += "fix_modify a energy yes\nfix_modify b energy yes\n"
    output = case.ok(head("pe") + fixes + DUMP + "run 0\n", ranks)
    np.testing.assert_allclose(thermo(output)[0, 1], energy.item(), rtol=1e-13)
    np.testing.assert_allclose(case.dump()[0][:, 7:], -gradient.numpy(), rtol=1e-12, atol=1e-12)
    assert f"27 atoms go to each of {ranks} ranks each time" in output


def test_forces_without_an_energy(case: Case) -> None:
    case.atoms(lattice(3), box(3.6))
    told = {"sees": "atoms", "gives": "forces", "inputs": ["v", "time"]}
    v = torch.rand(5, 3, dtype=torch.float64)
    bundles.write(
        case.folder / "drag",
        "force",
        told,
        scripts=[Drag()],
        examples=(v, torch.tensor(0.5, dtype=torch.float64)),
    )
    script = head() + "velocity all create 1.0 4711\nfix m all mlcore force drag\n" + DUMP
    case.ok(script + "fix i all nve\nrun 20\n", 2)
    frame = case.dump()[-1]
    v = torch.tensor(frame[:, 4:7])
    # forces were computed before the last half kick
    before = v - 0.5 * 0.002 * torch.tensor(frame[:, 7:])
    expected = Drag()(before, torch.tensor(20 * 0.002, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(frame[:, 7:], expected, rtol=1e-12)
    fails(case, script + "fix_modify m energy yes\n", "fix_modify")
    fails(case, script + "minimize 0 1e-6 10 100\n", "gives forces and no energy")


# -- wrong input ----------------------------------------------------------------------------------
WORDS = {
    "": "the mode is missing",
    "fly lj": "unknown mode 'fly'",
    "force": "the folder of the bundle is missing",
    "force lj engine": "keyword 'engine' has no value",
    "force lj engine abacus": "'engine' must be one of native, compiled, torchscript, found 'abacus'",
    "force lj engine compiled": "bundle 'lj': holds no engine compiled",
    "force lj dtype float16": "'dtype' must be one of float32, float64",
    "force lj dtype float32": "run in float64; dtype float32 needs engine torchscript",
    "force lj device tpu": "'device' must be one of cpu, cuda",
    "force lj device cuda": "device cuda needs engine torchscript or compiled",
    "force many device cuda": "which has no CUDA",
    "force lj cutoff 2.0": "is less than the cutoff 2.5",
    "force lj cutoff far": "'cutoff' needs a finite number, found 'far'",
    "force lj temp 1": "unknown keyword 'temp' for mode force",
    "force lj verbose 1 verbose 1": "'verbose' is given twice",
    "force absent": "'absent' is not a folder",
    "qoi lj": 'field kind is "force", this mode needs "qoi"',
    "force metal": "field units.length says 'metal', this run has units lj",
}


def test_wrong_words(case: Case) -> None:
    case.atoms(lattice(3), box(3.6))
    bundles.pair_table(case.folder / "lj", knots=11)
    bundles.pair_table(case.folder / "metal", knots=11, units="metal")
    many_body(case.folder / "many")
    lines = [f'if "${{w}} == {k}" then "fix m all mlcore {w}"' for k, w in enumerate(WORDS)]
    script = head() + "\n".join(lines) + "\nrun 0\n"
    for k, message in enumerate(WORDS.values()):
        fails(case, f"variable w index {k}\n" + script, "fix mlcore m: ", message)


def test_types_cutoffs_and_run_styles(case: Case) -> None:
    case.atoms(lattice(3), box(3.6), types=[1 + i % 2 for i in range(27)])
    bundles.pair_table(case.folder / "lj", knots=11)
    fails(case, head() + force("lj") + "run 0\n", "has type 2, the model knows types 1 to 1")
    case.ok(head() + "group one type 1\nfix m one mlcore force lj cutoff 2.6\nrun 0\n")
    respa = "pair_style zero 2.0\npair_coeff * *\nfix i all nve\nrun_style respa 2 2\n"
    respa += "group one type 1\nfix m one mlcore force lj\nrun 1\n"
    fails(case, head() + respa, "needs run_style verlet, found respa")


def damage(folder: Path, edit: str) -> None:
    import json

    manifest = json.loads((folder / "manifest.json").read_text())
    if edit == "hash":
        with (folder / "model_0.pt").open("ab") as file:
            file.write(b"x")
        return
    if edit == "truncated":
        content = (folder / "model_0.pt").read_bytes()
        (folder / "model_0.pt").write_bytes(content[: len(content) // 2])
    changes: dict[str, tuple[str, Any]] = {
        "sees": ("sees", "stars"),
        "cutoff": ("cutoff", None),
        "types": ("types", 0),
        "members": ("members", 2),
        "gives": ("gives", "step"),
        "inputs": ("inputs", ["x"]),
        "dtype": ("dtype", "float16"),
    }
    if edit in changes:
        name, value = changes[edit]
        manifest["model"][name] = value
    if edit == "engines":
        manifest["engines"] = {}
    if edit == "file":
        manifest["engines"]["torchscript"]["files"] = ["other.pt"]
    bundles.finish(folder, manifest)


DAMAGE = {
    "hash": "does not have the sha256 recorded here",
    "truncated": "model file 'many/model_0.pt'",
    "sees": 'field model.sees is "stars"',
    "cutoff": "field model.cutoff must be a positive number",
    "types": "field model.types must be a whole number of at least 1",
    "members": "must list one file per member, that is 2",
    "gives": 'field model.gives does not fit kind "force"',
    "inputs": "field model.inputs must be absent",
    "dtype": 'field model.dtype is "float16"',
    "engines": "field manifest.engines must hold",
    "file": "is not listed in files",
}


@pytest.mark.parametrize("edit", DAMAGE)
def test_damaged_bundle(case: Case, edit: str) -> None:
    case.atoms(lattice(3), box(3.6))
    many_body(case.folder / "many")
    damage(case.folder / "many", edit)
    ranks = 2 if edit == "hash" else 1
    fails(case, head() + force("many"), "fix mlcore m: ", "'many", DAMAGE[edit], ranks=ranks)


class Wrong(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(
        self, D: torch.Tensor, i: torch.Tensor, j: torch.Tensor, types: torch.Tensor
    ) -> torch.Tensor:
        energy = torch.zeros(types.shape[0], dtype=D.dtype).index_add(0, i, (D * D).sum(1))
        if self.kind == "float32":
            return energy.float()
        if self.kind == "column":
            return energy[:, None]
        if self.kind == "inverse":
            return torch.zeros_like(energy).index_add(0, i, 1 / (D * D).sum(1))
        return energy * torch.nan


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("float32", "of type Float and shape"),
        ("column", "expected Double and ["),
        ("nan", "energy for atom 1 is not finite"),
        ("inverse", "is not finite (closest pair: atoms 1 and 2 at distance 0.000000)"),
    ],
)
def test_wrong_models(case: Case, kind: str, message: str) -> None:
    x = lattice(3)
    x[1] = x[0]
    case.atoms(x, box(3.6))
    examples = bundles.neighbor_examples()
    bundles.write(case.folder / "b", "force", NEIGHBORS, scripts=[Wrong(kind)], examples=examples)
    ranks = 2 if kind == "nan" else 1
    fails(case, head() + force("b") + "run 0\n", "model file 'b/model_0.pt'", message, ranks=ranks)


def test_create_and_unfix_keep_memory_flat(case: Case) -> None:
    case.atoms(lattice(3), box(3.6))
    bundles.pair_table(case.folder / "lj", knots=101)
    many_body(case.folder / "many")
    loop = (
        "variable k loop 300\nlabel again\nfix m all mlcore force {} verbose 0\nunfix m\n"
        'if "$k == 50 || $k == 300" then "info memory"\nnext k\njump SELF again\n'
    )
    for name in ("lj", "many"):
        output = case.ok(head() + loop.format(name))
        used = [float(v) for v in re.findall(r"Maximum resident set size: +([\d.]+)", output)]
        assert len(used) == 2 and used[1] - used[0] < 2.0, used
