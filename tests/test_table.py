"""Tables of reference results, on tiny tiers."""

from __future__ import annotations

import pytest

import hetero_bench
from baselines import bc_discrete as bc
from baselines.cli import main
from baselines.engine import Job, list_methods, run_jobs
from baselines.engine.precision import default_precision
from baselines.table import cells_of, jobs_of, make_table
from baselines.tiers import TIERS, Cells, Tier
from hetero_bench.errors import UnknownDatasetError
from hetero_bench.registry import registry_folder
from hetero_bench.runs import RunCollection, read_run_file, read_runs, write_run

DATASET = "gridworld-hetero-10k"
TINY = Tier(
    about="tiny",
    cells=(
        Cells(("bc",), ("gridworld-*-10k",), steps=4, seeds=(0, 1), draws=(0, 1)),
        Cells(("cql",), (DATASET,), steps=3, seeds=(0,), changes={"alpha": 0.5}),
    ),
    population=8,
)


def tiny(**changes):
    """One cell, quick to train."""
    cells = Cells(("bc",), (DATASET,), **{"steps": 4, "seeds": (0, 1), **changes})
    return Tier(about="tiny", cells=(cells,), population=8)


def test_every_cell_is_trained_once():
    tier = TIERS["gridworld"]
    jobs = list(jobs_of(cells_of(tier, ["bc"]), tier.population, out=None))
    cells = [cell for job in jobs for cell in job.datasets]
    assert len(cells) == len(set(cells)) == 4 + 4 * 5
    assert ("gridworld-hetero", None) in cells
    assert ("gridworld-skewed-10k", 4) in cells
    assert max(job.members for job in jobs) == 50


@pytest.mark.parametrize("tier", list(TIERS))
def test_what_is_missing_is_cut_as_the_whole_is(tier):
    """Else a table that was interrupted would meet run records of other populations."""
    cells = list(cells_of(TIERS[tier]))

    def populations(cells):
        jobs = jobs_of(cells, TIERS[tier].population, out=None)
        return {(job.method, job.steps, job.datasets) for job in jobs}

    whole = populations(cells)
    for method, steps, datasets in whole:
        rest = [
            cell
            for cell in cells
            if (cell.method.name, cell.steps) != (method, steps)
            or not set(cell.datasets) <= set(datasets)
        ]
        assert populations(rest) <= whole


def test_a_table_goes_on_after_the_first_of_its_populations(cache, tmp_path, monkeypatch):
    cells = (
        Cells(
            ("bc",),
            ("gridworld-hetero-10k", "gridworld-mixed-10k"),
            steps=4,
            seeds=(0,),
            draws=(0, 1),
        ),
    )
    tier = Tier("", cells, population=3)
    options = {"work": tmp_path / "w", "out": tmp_path / "o", "workers": 1, "quiet": True}
    with monkeypatch.context() as patch:
        patch.setattr("baselines.table.run_jobs", lambda jobs, **given: run_jobs(jobs[:1], **given))
        make_table(tier, **options)
    assert [path.exists() for path in make_table(tier, **options)] == [True, True]


def test_a_table_is_one_file_per_method_and_dataset(cache, tmp_path):
    work, out = tmp_path / "work", tmp_path / "results"
    other = Job("bc", (bc.Config(),), ((DATASET, 0),), (0, 2), 5, work / "other")
    run_jobs([other], workers=1, quiet=True)  # what else lies there is no part of the table
    place = work / "bc/gridworld-hetero-10k-v0"
    place.mkdir(parents=True)
    (work / "other/bc/gridworld-hetero-10k-v0/seed-2").rename(place / "seed-2")

    options = {"work": work, "out": out, "workers": 1, "quiet": True}
    written = make_table(TINY, **options)
    assert len(written) == 5
    runs = read_run_file(out / "bc/gridworld-hetero-10k-v0.json")
    assert [(run.dataset.draw, run.seed) for run in runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(len(run.evaluations[-1].returns) == 100 for run in runs)
    (run,) = read_run_file(out / "cql/gridworld-hetero-10k-v0.json")
    assert (run.config["alpha"], run.budget.steps) == (0.5, 3)
    before = [path.read_bytes() for path in written]
    make_table(TINY, **options)
    assert [path.read_bytes() for path in written] == before


def test_what_is_finished_is_not_trained_even_without_the_work(cache, tmp_path, monkeypatch):
    out = tmp_path / "results"
    (path,) = make_table(tiny(), work=tmp_path / "one", out=out, workers=1, quiet=True)
    monkeypatch.setattr("baselines.table.run_jobs", lambda jobs, **_: None if not jobs else 1 / 0)
    assert make_table(tiny(), work=tmp_path / "two", out=out) == [path]
    before = path.read_bytes()
    for other in (
        tiny(seeds=(0, 1, 2)),
        tiny(steps=5),
        tiny(draws=(1,)),
        tiny(changes={"batch_size": 8}),
    ):
        with pytest.raises(FileExistsError, match=r"10k-v0\.json holds other runs.*--overwrite"):
            make_table(other, work=tmp_path / "two", out=out)
    with pytest.raises(FileExistsError, match="precision"):
        make_table(tiny(), work=tmp_path / "two", out=out, precision="bf16")
    (run, *rest) = read_run_file(path)
    for stale in (
        run.model_copy(update={"reference": run.reference.model_copy(update={"expert": 9.0})}),
        run.model_copy(update={"dataset": run.dataset.model_copy(update={"digest": "0" * 64})}),
    ):
        write_run(RunCollection(runs=[stale, *rest]), path)
        with pytest.raises(FileExistsError, match="data of another release"):
            make_table(tiny(), work=tmp_path / "two", out=out)
    write_run(RunCollection(runs=[run, *rest]), path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    make_table(tiny(steps=5), work=tmp_path / "two", out=out, overwrite=True, quiet=True)
    assert {run.budget.steps for run in read_run_file(path)} == {5}


def test_what_is_done_is_kept_when_another_cell_fails(cache, tmp_path):
    """The second cell's place is taken by another run, which is found when it begins."""
    run_jobs([Job("cql", None, ((DATASET, 0),), (0,), 5, tmp_path / "w")], workers=1, quiet=True)
    cells = (
        Cells(("bc",), (DATASET,), steps=4, seeds=(0, 1)),
        Cells(("cql",), (DATASET,), steps=3, seeds=(0,)),
    )
    options = {"work": tmp_path / "w", "out": tmp_path / "o", "workers": 1, "quiet": True}
    with pytest.raises(FileExistsError):
        make_table(Tier("", cells, population=8), **options)
    assert len(read_run_file(tmp_path / "o/bc/gridworld-hetero-10k-v0.json")) == 2
    assert not (tmp_path / "o/cql").exists()


def test_tiers_have_work_folders_of_their_own(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, steps in (("one", 3), ("two", 4)):
        monkeypatch.setitem(TIERS, name, tiny(steps=steps, seeds=(0,)))
        make_table(name, out=tmp_path / name, workers=1, quiet=True)
        (place,) = (tmp_path / "runs/table" / name / "bc").glob("gridworld-*")
        assert place.is_dir()


def test_a_tier_is_narrowed_and_refuses_what_it_does_not_have(tmp_path):
    chosen = list(cells_of(TINY, ["bc"], ["gridworld-mixed-10k"]))
    assert [(cell.method.name, cell.spec.name) for cell in chosen] == [
        ("bc", "gridworld-mixed-10k")
    ]
    with pytest.raises(ValueError, match="methods td3 not in the tier; it has bc, cql"):
        list(cells_of(TINY, ["td3"]))
    with pytest.raises(ValueError, match="datasets gridworld-hetero not in the tier; it has"):
        list(cells_of(TINY, [], ["gridworld-hetero"]))
    with pytest.raises(ValueError, match="none of these methods on any of these datasets"):
        make_table(
            TINY, methods=["cql"], datasets=["gridworld-mixed-10k"], work=tmp_path, out=tmp_path
        )
    with pytest.raises(ValueError, match="no tier 'atari'; there are: gridworld, cpu, gpu"):
        make_table("atari", work=tmp_path)
    absent = Tier("", (Cells(("bc",), (DATASET, "swimmer-hb"), steps=1),), population=8)
    with pytest.raises(UnknownDatasetError, match="swimmer-hb, which does not exist.*--datasets"):
        list(cells_of(absent))
    assert [cell.spec.name for cell in cells_of(absent, [], [DATASET])] == [DATASET]


def test_cells_of_different_shapes_or_budgets_are_trained_apart():
    cells = (
        Cells(("td3_bc",), ("hopper-medium-hb-10k", "hopper-expert-hb-10k"), steps=4),
        Cells(("td3_bc",), ("antmaze-medium-noisy",), steps=4),
        Cells(("td3_bc",), ("hopper-random-hb-10k",), steps=5),
    )
    jobs = list(jobs_of(cells_of(Tier("", cells, 60)), 60, out=None))
    assert [[name for name, _ in job.datasets] for job in jobs] == [
        ["hopper-medium-hb-10k", "hopper-expert-hb-10k"],
        ["antmaze-medium-noisy"],
        ["hopper-random-hb-10k"],
    ]


@pytest.mark.parametrize("name", TIERS)
def test_the_tiers_make_sense(name):
    """Every method exists, patterns stand for something, and no file is written twice."""
    tier = TIERS[name]
    exist = {spec.name for spec in hetero_bench.list_datasets()}
    stated = {each for cells in tier.cells for each in cells.datasets if "*" not in each}
    cells = list(cells_of(tier, [], sorted(stated & exist) if stated - exist else []))
    paths = [cell.path(registry_folder()) for cell in cells]
    assert len(paths) == len(set(paths))
    for each in tier.cells:
        for method in each.methods:
            assert method == "*" or method in {known.name for known in list_methods()}
    if name == "cpu":
        spot = next(cell for cell in cells if cell.method.name == "spot")
        assert spot.configs[0].density_steps < spot.steps


def test_settings_are_one_population_and_one_file(cache, tmp_path):
    settings = tuple({"learning_rate": rate} for rate in (2e-3, 1e-3))
    tier = tiny(changes={"batch_size": 4}, settings=settings)
    (cell,) = cells_of(tier)
    (job,) = jobs_of([cell], 2, out=tmp_path)
    assert cell.members == job.members == len(job.plan().members) == 4
    options = {"work": tmp_path / "w", "out": tmp_path, "workers": 1, "quiet": True}
    (path,) = make_table(tier, **options)
    found = [(run.config["learning_rate"], run.seed) for run in read_run_file(path)]
    assert found == [(2e-3, 0), (2e-3, 1), (1e-3, 0), (1e-3, 1)]
    assert {run.config["batch_size"] for run in read_run_file(path)} == {4}
    assert make_table(tier, **options) == [path]
    with pytest.raises(FileExistsError, match="holds other runs"):
        make_table(tiny(changes=tier.cells[0].changes, settings=settings[:1]), **options)


def test_the_committed_results_are_the_tiers():
    for folder in (registry_folder() / "results").iterdir():
        tier = TIERS[folder.name]
        precision = tier.precision or default_precision(tier.device)
        cells = {cell.path(folder): cell for cell in cells_of(tier)}
        for path in folder.rglob("*.json"):
            assert cells[path].is_in(path, precision), path


def test_a_table_from_the_command_line(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TIERS, "tiny", tiny())
    command = ["table", "--tier", "tiny", "--work", str(tmp_path / "w"), "--out"]
    assert main([*command, str(tmp_path / "r"), "--workers", "1", "--precision", "bf16"]) == 0
    assert "1 files of results are below" in capsys.readouterr().out
    assert len(read_runs(tmp_path / "r")) == 2
    assert main(["table", "--tier", "all"]) == 1
    assert "no tier 'all'" in capsys.readouterr().err
