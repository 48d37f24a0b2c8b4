from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from hetero_bench import plotting
from hetero_bench.bootstrap import Interval
from hetero_bench.grading import grade
from hetero_bench.plotting import IntervalRow
from hetero_bench.report import PNG_MAGIC, Figure, Section, Table, render
from tests.synthetic_runs import DATASET, save_scores

OTHER = "gridworld-uniform-v0"
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</style><style>body{background:url(https://evil.example/x)}",
    "$\\frac{",
    "{{ 7 * 7 }}",
    "a\x00\x1b[31m\nb",
    "</svg>]]><metadata>",
    "'DejaVu Sans' <b>",
    "m" * 300,
]
VOID = {"meta", "img", "br", "hr", "link", "input"}
PIXEL = PNG_MAGIC + b"not really a picture"


class Page(HTMLParser):
    """Checks nesting while it reads, and keeps elements and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def pictures(self) -> list[bytes]:
        return [base64.b64decode(str(image["src"]).split(",", 1)[1]) for image in self.all("img")]


def assert_self_contained(page: Page, html: str) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.elements
    }
    for _, attrs in page.elements:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            assert str(attrs.get(name) or "#").startswith(("data:image/", "#"))
    (styles,) = [text for tag, text in page.texts if tag == "style"]
    assert "url(" not in styles
    assert "@import" not in styles
    for picture in page.pictures():
        if picture.startswith(b"<svg"):
            svg = picture.decode()
            ElementTree.fromstring(svg)
            assert "<script" not in svg
            assert set(re.findall(r"https?://[^\"' <]+", svg)) <= {
                "http://www.w3.org/2000/svg",
                "http://www.w3.org/1999/xlink",
            }
            assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))
    policy = [meta for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy[0]["content"].startswith("default-src 'none'")


def assert_accessible(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [str(link["href"])[1:] for link in page.all("a")]
    targets += [str(part["aria-labelledby"]) for part in page.all("section")]
    assert set(targets) <= set(ids)


@pytest.fixture
def graded(tmp_path):
    for dataset in (DATASET, OTHER):
        save_scores(tmp_path, "bc", dataset, [10.0, 20.0, 30.0, 40.0])
        save_scores(tmp_path, "cql", dataset, [60.0, 70.0, 80.0, 90.0], config={"alpha": 0.5})
    return grade(tmp_path, resamples=200)


def test_a_report_of_a_grade_is_whole(graded, tmp_path):
    extra = Section("Where the policies go", "One.\n\nTwo.", figures=(Figure("c", "a", PIXEL),))
    path = graded.to_html(tmp_path / "out" / "report.html", sections=[extra], title="A title")
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert_self_contained(page, html)
    assert_accessible(page)
    assert ("title", "A title") in page.texts
    titles = [text for tag, text in page.texts if tag == "h2"]
    assert titles == [
        "Across datasets",
        DATASET,
        OTHER,
        "Performance profile",
        "Comparisons",
        "Where the policies go",
        "Data",
        "Runs",
        "Configurations",
    ]
    # Aggregates, one plot per dataset, the profile, and the caller's picture.
    assert len(page.pictures()) == 5
    assert page.pictures()[-1] == PIXEL
    cells = [text for tag, text in page.texts if tag in ("td", "th")]
    assert html.count('<tr class="strong">') == 3  # cql: across datasets and on either
    for expected in ("25.0 ± 12.9", "0–3", "cql is better", "alpha=0.5", "verified"):
        assert expected in cells
    assert ("p", "Two.") in page.texts
    assert "cql is first on 2 shared datasets" in html
    assert "200 resamples, seed 0" in html


def test_hostile_names_are_text(tmp_path):
    for name in HOSTILE:
        save_scores(tmp_path, name, DATASET, [10.0, 20.0], config={name: name})
    graded = grade(tmp_path, resamples=50)
    html = graded.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert_self_contained(page, html)
    assert_accessible(page)
    names = [text for tag, text in page.texts if tag == "th"]
    for name in HOSTILE:
        shown = name.replace("\x00", "�").replace("\x1b", "�").replace("\n", "�")
        assert shown in names
    assert "\x1b" not in html


def test_hostile_sections_are_text():
    table = Table("<b>", ("<i>",), (("<u>",),), note="<s>")
    section = Section("<h1>", "<p>", table, (Figure("<a>", '" onload="x', PIXEL),))
    html = render("<title>", [section], lead="<x>", facts=[("<y>", "<z>")], warnings=["<w>"])
    page = Page(html)
    assert_self_contained(page, html)
    assert_accessible(page)
    assert ("th", "<u>") in page.texts
    assert page.all("img")[0]["alt"] == '" onload="x'


def test_a_single_dataset_with_few_runs_has_no_profile(tmp_path):
    save_scores(tmp_path, "bc", DATASET, [10.0] * 3)
    html = grade(tmp_path, resamples=50).to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    titles = [text for tag, text in Page(html).texts if tag == "h2"]
    assert titles == [DATASET, "Data", "Runs", "Configurations"]
    assert "bc scores 10.0 [10.0, 10.0] on gridworld-hetero-v0" in html


def test_an_undecided_order_is_said_so(tmp_path):
    save_scores(tmp_path, "a", DATASET, [10.0, 20.0])
    save_scores(tmp_path, "b", DATASET, [10.0, 25.0])
    html = grade(tmp_path, resamples=50).to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "First place on gridworld-hetero-v0 is undecided between b and a." in html
    assert "undecided (too few runs)" not in html
    assert html.count('<tr class="strong">') == 2


def test_missing_shared_datasets_are_named(tmp_path):
    save_scores(tmp_path, "a", DATASET, [10.0, 20.0])
    save_scores(tmp_path, "b", OTHER, [10.0])
    html = grade(tmp_path, resamples=50).to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "there is no overall order" in html
    assert f"{DATASET} (no runs of b); {OTHER} (no runs of a)" in html


def test_reports_are_reproducible(graded, tmp_path):
    one, two = (graded.to_html(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two


def test_figures_must_be_png_or_svg():
    assert Figure("", "x", PIXEL).media_type == "image/png"
    assert Figure("", "x", b"<svg xmlns=''/>").media_type == "image/svg+xml"
    assert Figure("", "x", b"<?xml version='1.0'?><svg/>").media_type == "image/svg+xml"
    with pytest.raises(ValueError, match="expected PNG or SVG"):
        render("t", [Section("s", figures=(Figure("c", "a", b"GIF89a"),))])


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells; expected 2"):
        Table("caption", ("a", "b"), (("1", "2"), ("3",)))


def rows(*labels: str) -> list[IntervalRow]:
    return [IntervalRow(label, Interval(50.0, 40.0, 60.0), (45.0, 55.0)) for label in labels]


def test_interval_plots_draw_estimate_bounds_and_points():
    figure = plotting.interval_plot({"t": rows("a")}, references={0.0: "random", 100.0: "expert"})
    (ax,) = figure.axes
    lines = [line.get_xdata() for line in ax.get_lines()]
    assert [list(line) for line in lines[:3]] == [[45.0, 55.0], [40.0, 60.0], [50.0]]
    assert ax.get_xlim()[0] < 0.0
    assert ax.get_xlim()[1] > 100.0
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a"]
    assert ax.get_title(loc="left") == "t"
    # First row on top.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_interval_plots_without_bounds_draw_the_estimate_alone():
    row = IntervalRow("a", Interval(50.0, float("nan"), float("nan")))
    (ax,) = plotting.interval_plot({"t": [row]}).axes
    assert [list(line.get_xdata()) for line in ax.get_lines()] == [[50.0]]


def test_panels_share_row_labels_only_if_these_agree():
    same = plotting.interval_plot({"1": rows("a", "b"), "2": rows("a", "b")}).axes
    assert not any(text.get_text() for text in same[1].get_yticklabels())
    other = plotting.interval_plot({"1": rows("a", "b"), "2": rows("b", "a")}).axes
    assert [text.get_text() for text in other[1].get_yticklabels()] == ["b", "a"]
    with pytest.raises(ValueError, match="at least one row"):
        plotting.interval_plot({"1": []})


def test_profile_plots_draw_curves_and_bands():
    thresholds = [0.0, 50.0, 100.0]
    profiles = {"a": [1.0, 0.5, 0.0], "b": [1.0, 1.0, 0.2]}
    bands = {"a": ([0.9, 0.4, 0.0], [1.0, 0.6, 0.1]), "b": ([float("nan")] * 3, [float("nan")] * 3)}
    (ax,) = plotting.performance_profile_plot(thresholds, profiles, bands).axes
    assert [list(line.get_ydata()) for line in ax.get_lines()] == list(profiles.values())
    assert len(ax.collections) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_methods_keep_their_style():
    styles = plotting.method_styles([f"m{index}" for index in range(56)])
    assert len(set(styles.values())) == 56
    assert plotting.method_styles(["m0", "m1"])["m1"] == styles["m1"]


def test_svg_follows_the_readers_theme_and_png_is_png():
    figure = plotting.interval_plot({"<t> & $x_$": rows("a")})
    svg = plotting.to_svg(figure).decode()
    assert svg.startswith("<svg")
    assert "prefers-color-scheme:dark" in svg
    body = svg.split("</style>", 1)[1]
    assert plotting.INK not in body
    assert plotting.MUTED not in body
    assert "var(--c0)" in body
    assert "&lt;t&gt; &amp; $x_$" in body
    assert "DejaVu" not in body
    assert plotting.to_svg(figure) == plotting.to_svg(figure)
    assert plotting.to_png(figure).startswith(PNG_MAGIC)


def test_plotting_leaves_matplotlib_settings_alone():
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    plotting.to_svg(plotting.interval_plot({"t": rows("a")}))
    assert dict(matplotlib.rcParams) == before
