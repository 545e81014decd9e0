"""The stages of the study; what is done is in files and is not done again."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import maps
import measures
import numpy as np
import torch
import truth
from cost import costs
from environments import agreement, at_rest, clustered, labelled, seen
from forces import match
from frames import (
    REST,
    Pair,
    grid_of,
    ordered,
    pairs_of,
    rests,
    some_pairs,
    split,
    states_of,
)
from gns import GraphNetwork, fit
from measures import Stepper
from mlcore.errors import InvalidArgument
from mlcore.io import atomic_path, write_text
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState, Run, SagesNet, Scales
from mlcore.sagesnet.carbon import Dataset, Sample
from mlcore.sagesnet.carbon.observables import damage, tear
from mlcore.sagesnet.patterns import with_columns, write_extxyz
from rich.console import Console
from rich.progress import Progress
from settings import DT, Settings
from steppers import Graph, Learned

Answer = dict[str, Any]
PARTS = (0.25, 0.5, 0.75, 0.95)
"""Of the lesser of both yield strains, at which structures are compared."""
KELVIN = 8.314462618e-7
"""A^2/fs^2 u of 1 K."""
WAYS = ("net", "graph network", "constant velocity")


@dataclass
class Study:
    """Data, models and where answers are kept.

    Attributes:
        data: runs of sheets.
        out: folder of all that is made.
        settings: of the form.
        folder: of a net that was trained elsewhere; None: one is trained here.
    """

    data: Dataset
    out: Path
    settings: Settings
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.console = Console(stderr=True)

    # -- who is learned from -----------------------------------------------------------------------
    @cached_property
    def rests(self) -> list[Dataset]:
        """Small sheets beside the data set."""
        return rests(self.data.folder)

    @cached_property
    def still(self) -> list[tuple[Dataset, list[str]]]:
        """Sets of uncut sheets at rest, and the runs of each that are held out: the later half."""
        found = []
        for data in self.rests:
            names = [n for n in data.names() if "0" not in data[n].pattern]
            whole = len(names) == len(data)
            if data.pull.rate < REST and whole and names:
                found.append((data, names[-max(1, len(names) // 3) :]))
        return found

    @cached_property
    def parts(self) -> tuple[list[str], list[str]]:
        """Runs of sheets to learn from, and held out; kept, so that more data change nothing."""
        told = self.net.learned if self.folder is not None else []
        if self.folder is not None and not told:
            self.console.print(
                f"{self.folder}: does not tell the sheets it has learned from (training.sheets); "
                f"taken are the first {self.settings.train} patterns of the set"
            )
        path = self.out / "learned.json"
        if not told and path.is_file():
            told = json.loads(path.read_text())
        known, others = split(self.data, self.settings.train, told)
        if self.folder is None and not path.is_file():
            patterns = {self.data[name].pattern for name in known}
            write_text(path, json.dumps([p for p in ordered(self.data) if p in patterns]))
        return known, others

    @cached_property
    def grid(self) -> AtomGrid:
        """Cells in which all runs fit."""
        return grid_of(sample for data in (self.data, *self.rests) for sample in data)

    @cached_property
    def pairs(self) -> tuple[list[Pair], list[Pair]]:
        """Frames and the ones a step later to learn from, and others of the same runs."""
        every, still = self.settings.every
        kept = {name for data, names in self.still for name in _keys(data, names)}
        learned, between = [], []
        for data in (self.data, *self.rests):
            names = self.parts[0] if data is self.data else data.names()
            for name in names:
                if (str(data.folder), name) in kept:
                    continue
                sample = data[name]
                if data is self.data:
                    learned += pairs_of(sample, self.grid, every, tail=self.settings.tail)
                else:
                    learned += pairs_of(sample, self.grid, still)
                between += some_pairs(sample, self.grid, 4)
        return learned, between

    @cached_property
    def scales(self) -> Scales:
        """Of what is learned from."""
        return Scales.of(self.pairs[0], DT)

    # -- models ------------------------------------------------------------------------------------
    @cached_property
    def net(self) -> Trained:
        """The net, trained here or elsewhere."""
        folder = self.folder or self.out / "net"
        if not (folder / "manifest.json").is_file():
            if self.folder is not None:
                raise InvalidArgument(f"net: {folder} holds no net: its manifest.json is missing")
            self._train(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        return Trained(SagesNet.load(folder), folder, manifest.get("training", {}))

    def _train(self, folder: Path) -> None:
        learned, between = self.pairs
        known = list(dict.fromkeys(self.data[name].pattern for name in self.parts[0]))
        torch.manual_seed(0)
        cells = AtomCells((6,), DT, scales=self.scales, **self.settings.cells)
        net: SagesNet[AtomState] = SagesNet(cells, [self.settings.level])
        begin = _spent()
        told: Answer = {"sheets": known, "pairs": len(learned)}
        if cells.kicks:
            states = [now for now, _ in learned[:: self.settings.forces]]
            matched = match(cells, states, self.data.pull, self.settings.rattle)
            told |= {"forces": len(matched.parts), "forces_part": matched.part}
        if self.settings.fit is not None:
            told |= self._fitted(net, learned, between)
        net.save(folder, training=told | {"cpu_seconds": round(_spent() - begin, 1)})

    def _fitted(
        self, net: SagesNet[AtomState], learned: Sequence[Pair], between: Sequence[Pair]
    ) -> Answer:
        """Trains on steps."""
        assert self.settings.fit is not None
        options = dataclasses.replace(
            self.settings.fit, directory=self.out / "training", resume=True, progress=True
        )
        (result,) = net.fit(
            [Run(list(pair)) for pair in learned],
            validation=[Run(list(pair)) for pair in between[:: max(1, len(between) // 8)][:8]],
            options=options,
        )
        return {
            "seconds": round(result.seconds, 1),
            "epochs": result.epochs,
            "history": [[h["epoch"], h["loss"]] for h in result.history],
        }

    @cached_property
    def graph(self) -> GraphNetwork:
        """The graph network, trained on the same pairs for the net's CPU time or longer."""
        torch.manual_seed(0)
        model = GraphNetwork(DT, self.scales, **self.settings.gns)
        given = dict(self.settings.gns_fit)
        seconds = given.pop("seconds", None) or self.net.seconds or 60.0
        with Progress(console=self.console) as bar:
            task = bar.add_task("graph network", total=1.0)
            history = fit(
                model,
                self.pairs[0],
                seconds,
                file=self.out / "graph.pt",
                told=lambda part: bar.update(task, completed=part),
                **given,
            )
        self.graph_history = history
        return model

    def stepper(self, way: str, pull: Any = None) -> Stepper:
        """A way to go on by a step; ``pull``: whose thermostat acts in the net's steps."""
        if way == "net":
            return Learned(self.net.net, pull if self.settings.thermostat else None)
        if way == "graph network":
            return Graph(self.graph)
        return measures.straight

    def key(self, way: str) -> str:
        """Name of a way and of its weights, so that answers of other weights are not taken."""
        if way == "constant velocity":
            return "constant"
        module = self.net.net if way == "net" else self.graph
        told = hashlib.sha256()
        for _, tensor in sorted(module.state_dict().items()):
            told.update(tensor.detach().cpu().numpy().tobytes())
        return f"{way.split()[0]}-{told.hexdigest()[:8]}"

    def kept(self, way: str, name: str, do: Callable[[], Answer]) -> Answer:
        """What was found before, or is found now."""
        path = self.out / self.key(way) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            write_text(path, json.dumps(do()))
        answer: Answer = json.loads(path.read_text())
        return answer

    # -- M1, M2 ------------------------------------------------------------------------------------
    def steps(self, way: str) -> Answer:
        """One step on sheets held out (M2), over the whole pull."""
        names = self.parts[1][: self.settings.sheets]

        def do() -> Answer:
            pairs: list[Pair] = []
            for name in names:
                pairs += some_pairs(self.data[name], self.grid, self.settings.one_step)
            return measures.one_step(self.stepper(way), pairs, DT) | {"sheets": len(names)}

        which = hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
        return self.kept(way, f"steps-{which}", do)

    def noise(self, change: float) -> float:
        """What the data's thermostat adds by chance in a step, that nothing can predict, in parts of
        ``change``, A/fs, the error of constant velocity."""
        pull = self.data.pull
        forgotten = 1 - np.exp(-2 * DT * 1e-3 / pull.damping)
        return float(np.sqrt(forgotten * KELVIN * pull.temperature / 12.011) / change)

    def rest(self, way: str) -> list[Answer]:
        """Rollouts of uncut sheets at rest (M1)."""
        found = []
        for data, names in self.still:
            for name in names:
                sample = data[name]
                length = min(self.settings.rest + 1, len(sample))

                def do(
                    sample: Sample = sample, data: Dataset = data, length: int = length
                ) -> Answer:
                    states = states_of(sample.window(0, length), self.grid)
                    told = {"kelvin": data.pull.temperature, "run": sample.name}
                    return measures.follow(self.stepper(way), states) | told

                found.append(self.kept(way, f"rest-{data.pull.temperature:g}-{name}-{length}", do))
        return found

    def growth(self, way: str, part: float = 0.5) -> Answer:
        """A rollout from the middle of the pull of a sheet held out, beside what happened."""
        sample = self.data[self.parts[1][0]]
        first = int(part * len(sample))
        length = min(self.settings.rest + 1, len(sample) - first)

        def do() -> Answer:
            states = states_of(sample.window(first, length), self.grid)
            return measures.follow(self.stepper(way, self.data.pull), states)

        return self.kept(way, f"growth-{sample.name}-{first}-{length}", do)

    # -- M3 ----------------------------------------------------------------------------------------
    def sheets(self, way: str) -> list[Answer]:
        """Sheets held out, pulled until they yield."""
        most = self.settings.sheets if way == "net" else self.settings.baseline_sheets
        return self._sheets(way, self.parts[1][:most])

    def late(self, way: str) -> float:
        """By how much sheets that were learned from, one of each pattern, yield later than their labels."""
        first: dict[str, str] = {}
        for name in self.parts[0]:
            first.setdefault(self.data[name].pattern, name)
        made = self._sheets(way, list(first.values()))
        return float(np.mean([one["yield"]["strain"] - one["label"]["strain"] for one in made]))

    def _sheets(self, way: str, names: Sequence[str]) -> list[Answer]:
        found = []
        with Progress(console=self.console) as bar:
            task = bar.add_task(f"{way}: sheets", total=len(names))
            strain = bar.add_task("strain", total=self.settings.until)
            for name in names:
                sample = self.data[name]

                def do(sample: Sample = sample) -> Answer:
                    return self._pulled(
                        way, sample, lambda done: bar.update(strain, completed=done)
                    )

                found.append(self.kept(way, f"sheet-{name}", do))
                bar.update(task, advance=1)
        return found

    def _pulled(self, way: str, sample: Sample, told: Callable[[float], None]) -> Answer:
        begin = time.process_time()
        made = self._stretched(self.stepper(way, self.data.pull), sample, told)
        spent = time.process_time() - begin
        window = sample.window(0, None, self.settings.look)
        grip, first = sample.start.arrays["grip"], window.positions[0].astype(float)
        torn = tear(window.strains, damage(window.positions, grip, first))
        path = self.out / self.key(way) / f"sheet-{sample.name}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, strains=made.strains, frames=made.frames)
        label = sample.label
        structure = {}
        for part in PARTS:
            at = part * min(label.strain, made.found.strain)
            mine, theirs = (
                frames[np.argsort(np.abs(strains - at))[:5]]
                for strains, frames in (
                    (made.strains, made.frames),
                    (window.strains, window.positions),
                )
            )
            structure[f"{part:g}"] = measures.observables(mine, theirs) | {"strain": float(at)}
        return made.numbers() | {
            "run": sample.name,
            "label": dataclasses.asdict(label),
            "torn_md": measures.plain(torn),
            "cpu_seconds": round(spent, 2),
            "structure": structure,
        }

    def _stretched(
        self,
        stepper: Stepper,
        sample: Sample,
        told: Callable[[float], None] = lambda strain: None,
    ) -> measures.Stretched:
        (start,) = states_of(sample.window(0, 1), self.grid)
        return measures.stretch(
            stepper,
            start,
            sample.start.arrays["grip"],
            float(sample.record["section"]),
            self.data.pull,
            dt=DT,
            until=self.settings.until,
            look=self.settings.look,
            told=told,
        )

    def yields(self, way: str, found: Sequence[Answer], late: float | None = None) -> Answer:
        """Errors of yield strains of sheets (`measures.summary`)."""
        return measures.summary(
            [one["yield"]["strain"] for one in found],
            [one["label"]["strain"] for one in found],
            [self.data[name].label.strain for name in self.parts[0]],
            [(sample.pattern, sample.label.strain) for sample in self.data],
            late,
        )

    # -- M4 ----------------------------------------------------------------------------------------
    def speed(self) -> Answer:
        """CPU seconds of a step of the models and of LAMMPS, on one sheet held out."""
        sample = self.data[self.parts[1][0]]
        # all in a cell of its own box, as LAMMPS has it
        grid = grid_of([sample])

        def do() -> Answer:
            steppers = {way: self.stepper(way, self.data.pull) for way in WAYS}
            given = {"steps": self.settings.steps, "rounds": self.settings.rounds}
            return costs(steppers, sample, grid, self.data.pull, dt=DT, **given)

        return self.kept("net", f"speed-{sample.name}", do)

    # -- maps --------------------------------------------------------------------------------------
    @cached_property
    def unsure(self) -> SagesNet[AtomState]:
        """A copy of the net that knows how wrong it is: answers are filed by the net's own weights."""
        net = copy.deepcopy(self._bare())
        if "predictor_0" not in net.confidence:
            _, between, known = (self._some(names) for names in self._dealt())
            torch.manual_seed(0)
            maps.learn_confidence(net, known, between)
        return net

    def _dealt(self) -> tuple[list[str], list[str], list[str]]:
        """Sheets held out: those that judge confidence, set its band, are learned from.

        Neither the net nor its head has learned from those that judge or set the band, and all are
        seen over their whole pulls, so that what sets the band is as what it is asked about.
        """
        names = self.parts[1]
        return names[::3], names[1::3] or self.parts[0], names[2::3] or self.parts[0]

    def _some(self, names: Sequence[str]) -> list[Pair]:
        """States of sheets, each followed by AIREBO for a step; kept."""
        count, found = self.settings.maps, []
        for name in names:
            sample, file = self.data[name], self.out / "truth" / f"{name}-{count}.npz"
            if not file.is_file():
                file.parent.mkdir(exist_ok=True)
                self._follow(sample, [now for now, _ in some_pairs(sample, self.grid, count)], file)
            found += self._followed(sample, file)
        return found

    def _follow(self, sample: Sample, states: Sequence[AtomState], file: Path) -> Answer:
        """Writes what is true a step after states."""
        found, why = truth.followed(sample, self.data.pull, list(states), dt=DT)
        with atomic_path(file) as temporary, temporary.open("wb") as table:
            np.savez_compressed(table, states=found)
        return {"asked": len(states), "followed": len(found), "why": why}

    def _followed(self, sample: Sample, file: Path) -> list[Pair]:
        with np.load(file) as kept:
            return truth.pairs_of_truth(sample, kept["states"], self.grid)

    def confidence(self) -> Answer:
        """How well the net knows where it errs, by steps from true frames of sheets held out."""
        judging, *_ = self._dealt()

        def do() -> Answer:
            told = maps.expected_of_atoms(self.unsure, self._strained())
            answer = maps.judged(maps.held(self.unsure, self._some(judging)))
            answer |= {"atoms": told.round(6).tolist(), "run": judging[0]}
            return answer | {"sheets": judging}

        return self.kept("net", f"confidence-{len(self.parts[1])}-{judging[0]}", do)

    def rollouts(self) -> Answer:
        """How well the net knows where it errs on its own way: states of its rollouts of sheets held
        out, each followed by AIREBO for a step."""
        sheets, count = self.settings.rollouts
        names = self._dealt()[0][:sheets]

        def do() -> Answer:
            each, told = [], []
            with Progress(console=self.console) as bar:
                for name in bar.track(names, description="truth of rollouts"):
                    pairs, record = self._rolled(name, count)
                    held = maps.held(self.unsure, pairs)
                    each += held
                    told.append(maps.judged(held) | record)
            return maps.judged(each) | {"sheets": told}

        return self.kept("net", f"rollouts-{len(self.parts[1])}-{names[0]}-{sheets}-{count}", do)

    def _rolled(self, name: str, count: int) -> tuple[list[Pair], Answer]:
        """States of the net's rollout of a sheet and what is true a step later; kept."""
        sample = self.data[name]
        file = self.out / self.key("net") / f"followed-{name}-{count}.npz"

        def do() -> Answer:
            stepper = truth.Watched(self.stepper("net", self.data.pull), self.settings.look)
            made = self._stretched(stepper, sample)
            told = self._follow(sample, stepper.some(count), file)
            return {"run": name, "strain": made.found.strain, "ended": made.ended} | told

        record = self.kept("net", f"rolled-{name}-{count}", do)
        return self._followed(sample, file), record

    def environments(self) -> Answer | None:
        """How clusters of what bonds see agree with who is missing around an atom (L1), over whole
        pulls of sheets held out; None for nets without bonds. Atoms of a sheet that has yielded go
        into environments.extxyz."""
        names = self.parts[1][1::3][: self.settings.sorted] or self.parts[1]
        cells = self.net.net.cells
        if not isinstance(cells, AtomCells) or cells.bonds is None:
            return None

        def do() -> Answer:
            frames, labels = [], []
            for name in names:
                sample = self.data[name]
                window = sample.window(0, None, max(1, (len(sample) - 1) // 8))
                rest = at_rest(sample.pattern, self.data.design)
                first, *_ = places = window.positions.astype(float)
                frames += [seen(cells, state) for state in states_of(window, self.grid)]
                labels += [labelled(rest, first, place) for place in places]
                if name == names[0]:
                    last, shown = len(labels) - 1, window.atoms()[-1]
            found = clustered(frames)
            told = {"cluster": found[last], "environment": labels[last]}
            write_extxyz(self.out / "environments.extxyz", with_columns(shown, **told))
            columns = {name: column.tolist() for name, column in told.items()}
            return agreement(found, labels) | columns | {"sheets": names}

        return self.kept("net", f"environments-{len(names)}-{names[0]}", do)

    def sensitivity(self) -> Answer:
        """Which atoms the longest bond of a sheet held out hangs on."""
        sample = self.data[self.parts[1][0]]

        def do() -> Answer:
            told = maps.longest_bond(self._bare(), self._strained())
            ends = maps.ends_of_slots(sample.pattern, self.data.design)
            answer: Answer = {"atoms": told.tolist(), "run": sample.name}
            if ends.any() and told.any():
                top = told >= np.quantile(told, 0.95)
                answer["ends_over_median"] = float(np.median(told[ends]) / np.median(told))
                answer["ends_mean_over_mean"] = float(told[ends].mean() / told.mean())
                answer["top_at_ends"] = float(ends[top].mean())
                answer["ends"] = float(ends.mean())
            return answer

        return self.kept("net", f"sensitivity-{sample.name}", do)

    def _bare(self) -> SagesNet[AtomState]:
        """The net without a thermostat that a rollout has left."""
        Learned(self.net.net)
        return self.net.net

    def _strained(self) -> AtomState:
        """A sheet held out, by molecular dynamics, at 0.8 of its yield strain, atoms by id."""
        sample = self.data[self.parts[1][0]]
        (state,) = states_of(self._at(sample, 0.8), self.grid)
        return state

    def _at(self, sample: Sample, part: float) -> Any:
        per_frame = self.data.pull.rate * self.data.pull.timestep * self.data.pull.frame
        frame = min(int(part * sample.label.strain / per_frame), len(sample) - 1)
        return sample.window(frame, 1)


@dataclass
class Trained:
    """A net, and what its folder tells of its training."""

    net: SagesNet[AtomState]
    folder: Path
    training: Answer

    @property
    def learned(self) -> list[str]:
        """Patterns it has learned from."""
        return list(self.training.get("sheets", []))

    @property
    def seconds(self) -> float | None:
        """Of CPU that it was trained for, as far as known."""
        told = self.training.get("cpu_seconds") or self.training.get("seconds")
        return None if told is None else float(told)


def _spent() -> float:
    """CPU seconds of this process and of those it has waited for."""
    ours, theirs = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def _keys(data: Dataset, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(str(data.folder), name) for name in names]
