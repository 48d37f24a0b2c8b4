from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import hetero_bench

ROOT = Path(__file__).resolve().parents[1]


def test_generated_tables_are_current():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    make_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tables)
    families = {each.family for each in hetero_bench.list_datasets()}
    assert families == set(make_tables.FAMILIES)
    for document in make_tables.DOCUMENTS:
        current = make_tables.with_tables(document)
        assert document.read_text(encoding="utf-8") == current, "run python docs/make_tables.py"


def test_links_between_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_commands_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", readme, flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {hetero_bench.__version__}\n" in citation


def test_constraints_cover_the_direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = {
        re.split(r"[<>=\[]", requirement)[0].lower().replace("_", "-")
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in group
    } - {"hetero-bench", "mkdocs-material"}
    assert wanted <= pinned, wanted - pinned
