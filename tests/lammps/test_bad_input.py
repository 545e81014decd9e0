"""Wrong commands, parameter files and models: a message that names file and tag, never a crash."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Case, system
from test_deterministic import scattered
from test_stochastic import PAIR, WHOLE, box, noisy


def fails(
    case: Case, script: str, *words: str, ranks: int = 1, prefix: tuple[str, ...] = ()
) -> str:
    outcome = case.lmp(script, ranks, prefix=prefix)
    assert outcome.status == 1, outcome.output[-3000:]
    flat = " ".join(outcome.output.split())
    for word in words:
        assert word in flat, outcome.output[-3000:]
    assert "Segmentation" not in flat and "terminate called" not in flat
    return outcome.output


def start(case: Case, n: int = 3) -> None:
    case.atoms(scattered(n, 5.0), box(5))


GOOD = '<MLMOD><model_data type="dX_MF_ML1"><M_ii_filename value="M_ii.pt"/>' + (
    '<M_ij_filename value="M_ij.pt"/></model_data></MLMOD>'
)
XML: dict[str, tuple[bytes | None, str]] = {
    "absent": (None, "cannot open 'model.xml': No such file"),
    "empty": (b"", "'model.xml' is empty"),
    "half": (GOOD[: len(GOOD) // 2].encode(), "malformed XML"),
    "not XML": (b"\x00\x01\x02", "not a text file"),
    "a number": (b"42", "malformed XML at line 1"),
    "wrong root": (b"<A/>", "the outermost element must be <MLMOD>, found <A>"),
    "no data": (b"<MLMOD/>", "holds no <model_data"),
    "no type": (b"<MLMOD><model_data/></MLMOD>", "no attribute type"),
    "two": (b'<MLMOD><model_data type="A"/><model_data type="A"/></MLMOD>', "more than one"),
    "doctype": (b"<!DOCTYPE MLMOD []>" + GOOD.encode(), "<!DOCTYPE is not allowed"),
    "entity": (
        GOOD.replace("<MLMOD>", '<MLMOD><!entity x "y">').encode(),
        "<!ENTITY is not allowed",
    ),
    "huge": (b"<MLMOD>" + b" " * (1 << 20) + b"</MLMOD>", "too large"),
    "deep": (b"<a>" * 300_000, "nested deeper than 16"),
    "no value": (GOOD.replace('value="M_ii.pt"', "").encode(), "<M_ii_filename> has no attribute"),
    "empty value": (GOOD.replace("M_ii.pt", "").encode(), "<M_ii_filename> has an empty value"),
    "missing tag": (
        GOOD.replace("M_ij_filename", "other").encode(),
        '<M_ij_filename value="..."/> is missing',
    ),
    "twice": (GOOD.replace("M_ij_filename", "M_ii_filename").encode(), "is given twice"),
    "unknown mode": (GOOD.replace("dX_MF_ML1", "dX_MF_ML7").encode(), "'dX_MF_ML7' is unknown"),
}


@pytest.mark.parametrize("kind", XML)
def test_parameter_file(case: Case, kind: str) -> None:
    content, message = XML[kind]
    start(case)
    case.pair_models()
    if content is not None:
        case.write("model.xml", content)
    ranks = 2 if kind == "half" else 1
    script = system() + "fix m all mlmod model.xml\nrun 1\n"
    fails(case, script, "fix mlmod m:", "model.xml", message, ranks=ranks)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("KBT", "warm", "<KBT> must be a finite number, found 'warm'"),
        ("KBT", "nan", "<KBT> must be a finite number"),
        ("KBT", "1e999", "<KBT> must be a finite number"),
        ("KBT", "-1", "<KBT> must not be negative"),
        ("delta", "0", "<delta> must be positive"),
        ("delta", "1.0x", "<delta> must be a finite number"),
        ("flag_stochastic", "yes", "<flag_stochastic> must be 0 or 1"),
        ("flag_thm_drift", None, '<flag_thm_drift value="..."/> is missing'),
        ("bundle", "b", "either <bundle> or <M_ii_filename>"),
    ],
)
def test_parameter_value(case: Case, tag: str, value: str | None, message: str) -> None:
    start(case)
    values = {**case.pair_models(), **noisy(flag_thm_drift=1), tag: value}
    name = case.parameters(PAIR, **{k: v for k, v in values.items() if v is not None})
    fails(case, system() + f"fix m all mlmod {name}\nrun 1\n", "'model.xml'", message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the parameter file is missing"),
        ("model.xml quiet", "unknown word 'quiet'"),
        ("model.xml verbose", "'verbose' has no value"),
        ("model.xml verbose 3", "'verbose' needs a whole number from 0 to 2"),
        ("model.xml seed -1", "'seed' needs a whole number"),
        ("model.xml seed 1.5", "'seed' needs a whole number"),
        ("model.xml legacy maybe", "'legacy' must be 'yes' or 'no'"),
        ("model.xml psd shift", "'psd' must be 'repair' or 'error'"),
        ("model.xml seed 1 seed 2", "'seed' is given twice"),
    ],
)
def test_command(case: Case, words: str, message: str) -> None:
    start(case)
    case.parameters("dX_MF_ML1", **case.pair_models())
    fails(case, system() + f"fix m all mlmod {words}\nrun 1\n", message)


def spoil(case: Case, kind: str) -> None:
    path = case.folder / "M_ij.pt"
    content = path.read_bytes()
    functions: dict[str, models.Function] = {
        "float64": lambda z: models.rpy_pair_model(z).double(),
        "row": lambda z: models.rpy_pair_model(z).reshape(1, 9),
        "one number": lambda z: z.sum().reshape(1, 1),
        "wrong input": lambda z: models.rpy_pair_model(z.reshape(2, 6)[:1].reshape(6, 1)),
        "nan": lambda z: models.rpy_pair_model(z) + torch.log(z[0] - 1e6),
        "inf": lambda z: models.rpy_pair_model(z) / (0 * z[0]),
    }
    if kind == "absent":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "state dict":
        torch.save({"w": torch.zeros(3)}, path)
    elif kind == "tuple":

        class Two(torch.nn.Module):
            def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return z, z

        models.save_scripted(Two(), path)
    elif kind == "raises":

        class Raises(torch.nn.Module):
            def forward(self, z: torch.Tensor) -> torch.Tensor:
                raise ValueError("no such pair")

        models.save_scripted(Raises(), path)
    else:
        models.save_traced(functions[kind], 12 if kind == "wrong input" else 6, path)


MODELS = {
    "absent": "No such file",
    "empty": "is empty",
    "half": "M_ij.pt",
    "text": "M_ij.pt",
    "folder": "not a regular file",
    "state dict": "M_ij.pt",
    "tuple": "where one tensor is expected",
    "raises": "no such pair",
    "float64": "returns Double of shape [9, 1], expected Float of shape [9, 1]",
    "row": "returns Float of shape [1, 9], expected Float of shape [9, 1]",
    "one number": "returns Float of shape [1, 1], expected Float of shape [9, 1]",
    "wrong input": "M_ij.pt",
    "nan": "output for atoms 1 and 2 is not finite",
    "inf": "output for atoms 1 and 2 is not finite",
}


@pytest.mark.parametrize("kind", MODELS)
def test_model_file(case: Case, kind: str) -> None:
    start(case)
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    spoil(case, kind)
    script = system() + f"fix m all mlmod {name}\nrun 1\n"
    ranks = 2 if kind in ("absent", "nan") else 1
    fails(case, script, "fix mlmod m: M_ij_filename 'M_ij.pt'", MODELS[kind], ranks=ranks)


def test_whole_model_for_another_number_of_atoms(case: Case) -> None:
    start(case, 3)
    models.save_traced(models.whole_rpy_model(4), 12, case.folder / "M.pt")
    name = case.parameters(WHOLE, M_filename="M.pt", **noisy())
    fails(case, system() + f"fix m all mlmod {name}\nrun 1\n", "fix mlmod m: M_filename 'M.pt'")


def test_no_permission(case: Case) -> None:
    start(case)
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root reads everything unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root reads every file, and setpriv is not there to give that up")
        prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    for path, label in (("M_ij.pt", "M_ij_filename"), ("model.xml", "'model.xml'")):
        (case.folder / path).chmod(0)
        script = system() + f"fix m all mlmod {name}\nrun 1\n"
        fails(case, script, label, path, "Permission denied", prefix=prefix)
        (case.folder / path).chmod(0o644)


def test_run_style(case: Case) -> None:
    start(case)
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    fails(
        case,
        system() + f"fix m all mlmod {name}\nrun_style respa 2 2\nrun 1\n",
        "fix mlmod m: needs run_style verlet, found respa",
    )


def test_atoms_without_ids(case: Case) -> None:
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    fails(
        case,
        "units lj\natom_modify id no\nregion b block 0 5 0 5 0 5\n"
        + "create_box 1 b\n"
        + f"fix m all mlmod {name}\nrun 1\n",
        "needs atom ids",
    )


def test_empty_group_and_one_atom_run(case: Case) -> None:
    start(case)
    name = case.parameters(PAIR, **case.pair_models(), **noisy())
    before = case.lmp(
        system()
        + "group none id 99\ngroup one id 2\n"
        + f"fix a none mlmod {name}\nfix b one mlmod {name}\nrun 3\nunfix a\nunfix b\n"
        + f"fix b one mlmod {name}\nrun 3\n"
    )
    assert before.status == 0, before.output[-2000:]
    assert np.char.count(before.output, "Loop time") == 2


MASKED: dict[str, dict[str, object]] = {
    "F_ML1": {"F_filename": "F.pt"},
    "F_X_ML1": {"F_filename": "F.pt"},
    "F_Pair_ML1": {"F_filename": "F.pt"},
    "Dyn_ML1": {"dyn1_filename": "F.pt", "dyn2_filename": "F.pt"},
    "QoI_ML1": {"qoi_filename": "F.pt"},
}
ATOMS = {"F_ML1": 3, "F_X_ML1": 1, "F_Pair_ML1": 2, "Dyn_ML1": 3, "QoI_ML1": 3}
OUTPUTS = {"F_ML1": 9, "F_X_ML1": 3, "F_Pair_ML1": 6, "Dyn_ML1": 18}


def masked_parameters(case: Case, mode: str, **values: object) -> str:
    tags = {"base_name": "b", "base_dir": "out", "mask_fix": "POST_FORCE", "mask_input": "X"}
    if mode in ("Dyn_ML1", "QoI_ML1"):
        tags["mask_fix"] = "FINAL_INTEGRATE"
    both = {**tags, **MASKED[mode], **values}
    return case.parameters(mode, **{k: v for k, v in both.items() if v is not None})


def masked_start(case: Case, mode: str) -> None:
    start(case)
    outputs = OUTPUTS.get(mode, 4)

    def zeros(z: torch.Tensor) -> torch.Tensor:
        return 0 * z.sum() * torch.ones(outputs, 1)

    models.save_traced(zeros, 3 * ATOMS[mode], case.folder / "F.pt")


@pytest.mark.parametrize("mode", MASKED)
def test_required_tags(case: Case, mode: str) -> None:
    masked_start(case, mode)
    for tag in ("base_name", "mask_fix", "mask_input", *MASKED[mode]):
        name = masked_parameters(case, mode, **{tag: None})
        words = (
            "fix mlmod m: parameter file 'model.xml'",
            f'<{tag} value="..."/> is missing',
            mode,
        )
        fails(case, system() + f"fix m all mlmod {name}\nrun 1\n", *words)
    case.ok(system() + f"fix m all mlmod {masked_parameters(case, mode)}\nrun 2\n", 2)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        (
            "mask_input",
            "X,V",
            "<mask_input>: unknown word 'X,V', expected blank-separated words of",
        ),
        ("mask_input", "x", "of: X V F Type Time"),
        ("mask_input", " ", "<mask_input> has an empty value"),
        ("mask_fix", "PRE_FORCE", "of: INITIAL_INTEGRATE FINAL_INTEGRATE POST_FORCE"),
        ("skip_step", "0", "<skip_step> must be a whole number of at least 1, found '0'"),
        ("skip_step", "1.5", "<skip_step> must be a whole number"),
    ],
)
def test_masks(case: Case, tag: str, value: str, message: str) -> None:
    masked_start(case, "QoI_ML1")
    name = masked_parameters(case, "QoI_ML1", **{tag: value})
    fails(case, system() + f"fix m all mlmod {name}\nrun 1\n", "'model.xml'", message)


@pytest.mark.parametrize("cutoff", ["0", "-1", "near"])
def test_cutoff(case: Case, cutoff: str) -> None:
    masked_start(case, "F_Pair_ML1")
    name = masked_parameters(case, "F_Pair_ML1", cutoff=cutoff)
    fails(case, system() + f"fix m all mlmod {name}\nrun 1\n", "'model.xml'", "<cutoff> must be")


@pytest.mark.parametrize("mode", OUTPUTS)
@pytest.mark.parametrize("kind", ["float64", "row", "one number", "wrong input", "nan", "absent"])
def test_masked_model_file(case: Case, mode: str, kind: str) -> None:
    outputs, inputs = OUTPUTS[mode], 3 * ATOMS[mode]
    functions: dict[str, tuple[models.Function, str]] = {
        "float64": (lambda z: torch.ones(outputs, 1).double() + z.sum(), "returns Double"),
        "row": (
            lambda z: torch.ones(1, outputs) + z.sum(),
            f"returns Float of shape [1, {outputs}], expected Float of shape [{outputs}, 1]",
        ),
        "one number": (lambda z: z.sum().reshape(1, 1), f"expected Float of shape [{outputs}, 1]"),
        "wrong input": (lambda z: torch.ones(outputs, 1) * z.reshape(inputs + 3).sum(), "F.pt"),
        "nan": (lambda z: torch.ones(outputs, 1) * torch.log(z[0] - 1e6), "is not finite"),
        "absent": (lambda z: z, "No such file"),
    }
    function, message = functions[kind]
    start(case)
    models.save_traced(function, inputs + 3 * (kind == "wrong input"), case.folder / "F.pt")
    if kind == "absent":
        (case.folder / "F.pt").unlink()
    name = masked_parameters(case, mode)
    label = f"fix mlmod m: {next(iter(MASKED[mode]))} 'F.pt'"
    if mode == "Dyn_ML1" and kind != "absent":
        label = "fix mlmod m: dyn2_filename 'F.pt'"  # the one that is used
    script = system() + f"fix m all mlmod {name}\nrun 1\n"
    fails(case, script, label, message, ranks=2 if kind in ("nan", "absent") else 1)


def test_forces_of_overlapping_atoms_that_are_not_finite(case: Case) -> None:
    """On the second step of a run, on one of two ranks."""

    def repulsion(z: torch.Tensor) -> torch.Tensor:
        r = z[3:] - z[:3]
        f = r / (r * r).sum()
        return torch.cat([-f, f])

    v = np.zeros((4, 3))
    v[0, 0] = 64.0
    x = np.array([[1.0, 1, 1], [1.25, 1, 1], [4.5, 1, 1], [5.0, 5, 5]])
    case.atoms(x, box(6), v=v)
    models.save_traced(repulsion, 6, case.folder / "F.pt")
    for cutoff in (None, 2.0):
        name = masked_parameters(case, "F_Pair_ML1", cutoff=cutoff)
        script = system(dt=2.0**-9) + f"fix m all mlmod {name}\nfix n all nve/noforce\n"
        words = ("fix mlmod m: F_filename 'F.pt': output for atoms 1 and 2 is not finite",)
        fails(case, script + "run 4\n", *words, ranks=2)
