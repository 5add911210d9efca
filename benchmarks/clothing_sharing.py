"""One network for both clothing tasks against one for each, and hard against soft sharing.

    python benchmarks/clothing_sharing.py [--seeds 1 2 3] [--variants both type audience soft]

Every variant is configs/clothing.yaml with the same budget and images: `both` as it is, `type` and
`audience` with `--only`, `soft` with a backbone for each task. The settings in the config were
chosen on val with `both`; the strength of the soft penalty was not tuned. Test is measured once per
run, on the checkpoint that is best on val (by type accuracy, `audience` by its own). There are 81
kids among the 1,089 test images, so balanced accuracy and the area under the ROC curve come with
95 % intervals from 1,000 bootstrap samples of the test images. Needs ../shared; prints a line when
a run ends, and finally the means.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import runs
from rich.console import Console
from rich.table import Table
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

CONFIG = "configs/clothing.yaml"
DATA = runs.SHARED / "data/clothing"
SOFT = ("--model.sharing", "Soft", "--model.sharing.strength", "1.0e+4")
VARIANTS = {
    "both": (),
    "type": ("--only", "type"),
    # The config monitors type, which this variant lacks.
    "audience": ("--only", "audience", "--checkpoint.monitor", "val/audience/balanced_accuracy"),
    "soft": SOFT,
}


def measured(variant: str, seed: int) -> dict[str, float]:
    """Train and test one variant; return seconds and test figures."""
    with tempfile.TemporaryDirectory() as folder:
        where = ("--trainer.default_root_dir", folder, "--name", "run")
        only = ("--only", variant) if variant in ("type", "audience") else ()
        log = Path(folder) / "log.txt"
        seeded = ("--seed_everything", str(seed))
        fit = runs.command("fit", "--config", CONFIG, *where, *seeded, *VARIANTS[variant], log=log)
        best = ("--ckpt_path", "best", *where)
        runs.command("test", "--config", CONFIG, *best, *only, log=log)
        tasks = runs.results(Path(folder) / "run" / "version_0", "test")
        found = {"fit s": fit.wall}
        if "type" in tasks:
            found["type top-1"] = tasks["type"]["accuracy"]
            found["type balanced"] = tasks["type"]["balanced_accuracy"]
        if "audience" in tasks:
            answers = Path(folder) / "answers.csv"
            images = ("--images", str(DATA / "audience.csv"), "--output", str(answers))
            precision = ("--trainer.precision", "bf16-mixed")  # the config's, as in the test
            runs.command("predict", *best, *images, *precision, log=log)
            found |= audience(pd.read_csv(answers))
            expected = tasks["audience"]["balanced_accuracy"]
            # In another batch, bfloat16 may round one image differently.
            assert abs(found["audience balanced"] - expected) < 0.01
        return found


def audience(answers: pd.DataFrame) -> dict[str, float]:
    """Return balanced accuracy and area under the curve on test, with 95 % intervals."""
    labels = pd.read_csv(DATA / "audience.csv")
    rows = labels.merge(answers, on="image", suffixes=("", "_answer")).query("split == 'test'")
    truth = (rows["audience"] == "kids").to_numpy()
    answer = (rows["audience_answer"] == "kids").to_numpy()
    probability = rows["audience:kids"].to_numpy()
    figures = {
        "audience balanced": lambda i: balanced_accuracy_score(truth[i], answer[i]),
        "audience AUC": lambda i: roc_auc_score(truth[i], probability[i]),
    }
    draw = np.random.default_rng(0)
    samples = [draw.integers(0, len(truth), len(truth)) for _ in range(1000)]
    found = {}
    for name, figure in figures.items():
        values = [figure(sample) for sample in samples]
        found[name] = figure(np.arange(len(truth)))
        found[f"{name} low"], found[f"{name} high"] = np.percentile(values, [2.5, 97.5])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    given = parser.parse_args()
    runs.skip_without((DATA / "type.csv", DATA / "audience.csv"))
    console = Console(width=150)
    rows = []
    for seed in given.seeds:
        for variant in given.variants:
            found = measured(variant, seed)
            rows.append({"variant": variant, "seed": seed} | found)
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            console.print(f"seed {seed} {variant}: {numbers}", highlight=False)
    means = pd.DataFrame(rows).groupby("variant", sort=False).mean(numeric_only=True)
    names = ("type top-1", "type balanced", "audience balanced", "audience AUC")
    table = Table("variant", *names, title=f"mean of {len(given.seeds)} seeds, test")
    for variant, row in means.iterrows():
        cells = [f"{row[n]:.3f}" if n in row and row[n] == row[n] else "-" for n in names]
        table.add_row(str(variant), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
