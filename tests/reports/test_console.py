import io
import math

from rich.console import Console

from mtl_lightning.audit.label_counts import label_counts
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.reports.console import (
    courses_table,
    merged_table,
    metric_tables,
    results_table,
    sizes_line,
)
from mtl_lightning.runs.facts import Parameters, Sizes, TaskCourse, TaskFacts
from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.tasks.results import Results
from tests.helpers.data import Memory, make_data, make_tasks

NAN = float("nan")
WIDTH = 80
NAMES = ["type", "audience_of_the_garment", "audience_of_the_shop", "collar", "colour", "season"]
NAMES += ["pattern", "price_in_euros"]


def printed(*renderables):
    """What a terminal of 80 columns shows, line by line, without the ends of the lines."""
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    for renderable in renderables:
        console.print(renderable)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    return [line.rstrip() for line in lines if line.strip()]


def test_labels_of_one_task_have_a_table_of_their_own():
    values = {"n_labelled": 30, "loss": 0.5, "mean_ap": 0.7, "ap/hat": 0.8, "ap/bag": math.nan}
    values |= {"n_labelled/hat": 20.0, "n_labelled/bag": 10.0}
    whole, labels = metric_tables(Results("test", {"tags": values}, 0.5, 0.7))
    text = [" ".join(line.split()) for line in printed(whole, labels)]
    assert "task labelled loss mean ap" in text
    assert "label ap labelled" in text
    assert "hat 0.8000 20" in text
    assert "bag nan 10" in text


def test_the_last_the_best_and_the_chosen_epoch_of_each_task():
    courses = {
        "type": TaskCourse(0.70, 0.72, 5, 0.71, 6),
        "audience": TaskCourse(0.75, 0.75, 7, None, None),
    }
    text = [" ".join(line.split()) for line in printed(courses_table(courses))]
    assert "task last best epoch chosen epoch" in text
    assert "type 0.7000 (-0.0200) 0.7200 5 0.7100 (-0.0100) 6" in text
    assert "audience 0.7500 0.7500 7" in text


def made(count, absent=()):
    """Results of the first tasks; the eighth is a regression."""
    tasks = {
        name: Regression() if i == 7 else Classification(["a", "b"])
        for i, name in enumerate(NAMES[:count])
    }
    values = {}
    for i, name in enumerate(tasks):
        measured = {"n_labelled": 1000 * i + 1089, "loss": i + 0.25}
        measured |= {"accuracy": 0.75, "balanced_accuracy": 0.5 + i / 100}
        measured |= {"calibration_error": 0.05, "macro_f1": 0.6}
        if i == 7:
            measured = {"n_labelled": 8, "loss": 1.0, "mae": 12345.5, "r2": NAN, "rmse": 123456.5}
        values[name] = {"n_labelled": 0} if name in absent else measured
    kinds = {name: TaskFacts(type(task).__name__, task.primary) for name, task in tasks.items()}
    return Results.of("test", tasks, values), kinds


def test_a_validations_table_of_one_task():
    results, tasks = made(1)
    assert printed(results_table(results, tasks, "epoch 3", {"type": 0.7})) == [
        "epoch 3",
        "  task   labelled     loss   metric               value     best",
        " ────────────────────────────────────────────────────────────────",
        "  type      1,089   0.2500   balanced_accuracy   0.5000   0.7000",
        "  all               0.2500   score               0.5000",
    ]


def test_a_validations_table_of_eight_tasks_two_of_them_absent():
    results, tasks = made(8, absent=("collar", "season"))
    lines = printed(results_table(results, tasks, "epoch 3", dict.fromkeys(tasks, 0.5)))
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert rows["type"] == ["1,089", "0.2500", "balanced_accuracy", "0.5000", "0.5000"]
    assert rows["collar"] == ["0", "absent"]
    assert rows["season"] == ["0", "absent"]
    assert rows["price_in_euros"] == ["8", "1.0000", "r2", "nan", "0.5000"]
    assert rows["all"] == ["15.2500", "score", "0.5260"]
    assert "…" not in "".join(lines)


def test_long_names_are_folded_not_cut():
    results, tasks = made(3)
    tasks = {f"a_name_so_long_that_no_terminal_has_room_for_{n}": t for n, t in tasks.items()}
    values = dict(zip(tasks, results.tasks.values(), strict=True))
    results = Results("test", values, 1.0, 0.5)
    text = "".join(printed(results_table(results, tasks, "epoch", {})))
    assert "…" not in text
    text = "".join(printed(*metric_tables(results)))
    assert "…" not in text


def test_without_best_there_is_no_such_column():
    results, tasks = made(2)
    lines = printed(results_table(results, tasks, "val", None))
    assert "best" not in lines[1]
    assert lines[3].split()[-1] == "0.5000"


def test_nothing_but_absent_tasks():
    results, tasks = made(2, absent=NAMES)
    lines = printed(results_table(results, tasks, "val", {}))
    assert [line.split() for line in lines[3:]] == [
        ["type", "0", "absent"],
        ["audience_of_the_garment", "0", "absent"],
    ]
    assert metric_tables(results) == []


def test_the_best_so_far_is_marked():
    results, tasks = made(2)
    table = results_table(results, tasks, "epoch", {"type": 0.5, NAMES[1]: 0.9})
    assert list(table.columns[5].cells) == ["[green]0.5000[/]", "0.9000", ""]


def test_all_metrics_of_eight_tasks():
    results, _ = made(8, absent=("collar",))
    classes, numbers = metric_tables(results)
    text = " ".join(printed(classes))
    for word in ("labelled", "loss", "accuracy", "balanced", "calibration", "error", "macro f1"):
        assert word in text
    assert "collar" not in text
    assert printed(numbers)[1:] == [
        "  task             labelled     loss          mae    r2          rmse",
        " ─────────────────────────────────────────────────────────────────────",
        "  price_in_euros          8   1.0000   12345.5000   nan   123456.5000",
    ]


def two_sources(**names):
    names = {"people": "people", "faces": "faces"} | names
    kinds = ["cat", "dog", None, "eel", "cat", None]
    people = Memory({"kind": kinds, "rare": ["no"] * 6}, ["train"] * 4 + ["val", "test"], "a")
    faces = Memory({"kind": ["dog"] * 3, "size": [1, 2, None]}, ["train"] * 3, "b")
    sources = {names["people"]: people, names["faces"]: faces}
    return PartialLabels(make_tasks(), sources, image_size=16, num_workers=0)


def test_what_was_merged_of_two_sources():
    assert printed(merged_table(label_counts(two_sources().labels))) == [
        "labelled images",
        "  source   task     train   val   test",
        " ──────────────────────────────────────",
        "  people   kind         3     1      -",
        "           rare         4     1      1",
        "           images       4     1      1",
        "  faces    kind         3     -      -",
        "           size         2     -      -",
        "           images       3     -      -",
        "  merged   kind         6     1      -",
        "           size         2     -      -",
        "           rare         4     1      1",
        "           images       7     1      1",
    ]


def test_one_source_is_not_repeated():
    lines = printed(merged_table(label_counts(make_data().labels)))
    assert [line.split()[0] for line in lines[3:]] == ["memory", "size", "rare", "images"]


def test_a_name_that_looks_like_markup_is_shown_as_it_is():
    assert "[bold]2024" in " ".join(
        printed(merged_table(label_counts(two_sources(people="[bold]2024").labels)))
    )


def test_sizes_in_one_line():
    parameters = Parameters(14_720_000, 14_720_000, 14_700_000, {"kind": 20_000})
    sizes = Sizes(parameters, [96, 128], batch_size=8, devices=1, accumulate=1)
    assert sizes_line(sizes, "runs/[a]") == (
        "14.72 M parameters; images 96 x 128 px; run folder [bold]runs/\\[a][/]"
    )
    parameters.trained = 20_000
    assert "14.72 M parameters, 0.02 M of them trained; " in sizes_line(sizes, "runs")


def test_a_network_of_columns_has_no_size_of_images():
    parameters = Parameters(20_000, 20_000, 10_000, {"kind": 10_000})
    sizes = Sizes(parameters, [], batch_size=8, devices=1, accumulate=1)
    assert sizes_line(sizes, "runs") == "0.02 M parameters; run folder [bold]runs[/]"


def test_many_metrics_of_few_tasks_are_rows():
    values = {"n_labelled": 1600, "loss": 0.5} | {f"delta{i}": 0.25 for i in range(6)}
    (table,) = metric_tables(Results("test", {"depth": values}, 0.5, 0.5))
    lines = [line.split() for line in printed(table) if line.strip()]
    assert lines[1] == ["metric", "depth"]
    assert lines[3:5] == [["labelled", "1,600"], ["loss", "0.5000"]]
    assert len(lines) == 3 + 8
    few = dict(list(values.items())[:7])
    (table,) = metric_tables(Results("test", {"depth": few}, 0.5, 0.5))
    assert [line.split()[0] for line in printed(table) if line.strip()][1] == "task"
