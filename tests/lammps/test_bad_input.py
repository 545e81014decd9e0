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
