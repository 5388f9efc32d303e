"""Build what a teacher needs from the notebooks of this folder.

    python examples/lesson/build.py DIR
    python examples/lesson/build.py DIR --colab OWNER/REPO

The first executes the notebooks with the answers filled in, and writes to DIR each of them, its
slides as one HTML file that needs no network, and plane.html, the page to begin with. It takes
about two minutes. With CI set, the claims of the texts are asserted. The second writes the
students' notebooks for Google Colab: with a badge, and a cell that installs the package from
GitHub.
"""

import argparse
import copy
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

FOLDER = Path(__file__).resolve().parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STYLE = """
body { margin: 0; background: #ddd; font: 26px/1.4 system-ui, sans-serif; color: #111; }
section { box-sizing: border-box; width: 1240px; min-height: 696px; margin: 0 auto 24px;
          padding: 16px 40px; background: #fff; scroll-margin: 0; }
h1, h2 { margin: 0 0 12px; color: #1f4e79; font-size: 38px; }
p, ul, ol, table { margin: 0 0 12px; }
table { border-collapse: collapse; font-size: 24px; }
th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid #ccc; text-align: left; }
pre { margin: 0 0 8px; font: 20px/1.3 ui-monospace, "DejaVu Sans Mono", monospace; }
code { font-size: 0.9em; }
.highlight { padding: 6px 14px; background: #f4f4f4; }
.prompt, .anchor-link, summary, div:empty { display: none; }
img { display: block; margin: 0 auto; max-width: 100%; max-height: 520px; }
math[display=block] { margin: 8px 0 14px; font-size: 28px; }
@media print { body { background: #fff; } section { break-after: page; margin: 0; } }
"""
KEYS = """
addEventListener("keydown", (event) => {
  const slides = [...document.querySelectorAll("section")];
  const forward = ["ArrowRight", "PageDown", " "].includes(event.key);
  if (!forward && !["ArrowLeft", "PageUp"].includes(event.key)) return;
  event.preventDefault();
  const now = slides.findIndex((slide) => slide.getBoundingClientRect().bottom > 40);
  slides[Math.max(0, Math.min(now + (forward ? 1 : -1), slides.length - 1))].scrollIntoView();
});
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to write to")
    parser.add_argument("--colab", metavar="OWNER/REPO", help="write copies for students instead")
    flags = parser.parse_args()
    if flags.folder.resolve() == FOLDER:
        parser.error("DIR must be another folder than that of the students' notebooks")
    flags.folder.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        if flags.colab:
            notebook = for_colab(notebook, path.name, flags.colab)
        else:
            students = notebook.cells
            notebook = executed(answered(copy.deepcopy(notebook)))
            text = slides(students, notebook.cells)
            flags.folder.joinpath(f"{path.stem}.html").write_text(text, encoding="utf-8")
        nbformat.write(notebook, flags.folder / path.name)
        print(flags.folder / path.name, flush=True)
    if not flags.colab:
        build_plane(flags.folder / "plane.html")


# Notebooks


def answered(notebook: Any) -> Any:
    """The notebook with each exercise replaced by its answer, the next code in a <details>."""
    cells = notebook.cells
    for i, cell in enumerate(cells):
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = next(code for later in cells[i:] for code in answers(later.source))
    return notebook


def answers(text: str) -> list[str]:
    """The code of the answer in a cell, if it holds one."""
    if not text.startswith("<details>"):
        return []
    return re.findall(r"^```python\n(.*?)\n```", text, re.DOTALL | re.MULTILINE)


def executed(notebook: Any) -> Any:
    """The notebook with the outputs of a run from top to bottom. Raises what a cell raises."""
    from nbclient import NotebookClient

    where = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=600, resources=where, record_timing=False).execute()
    return notebook


def for_colab(notebook: Any, name: str, repository: str) -> Any:
    """The notebook with a badge, and a first cell that installs the package with the lesson."""
    address = f"github/{repository}/blob/main/examples/lesson/{name}"
    badge = (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/{address})"
    )
    archive = f"https://github.com/{repository}/archive/refs/heads/main.zip"
    install = f'%pip install --quiet "npaae @ {archive}"'
    slide = {"slideshow": {"slide_type": "skip"}}
    new = nbformat.v4
    notebook.cells[:0] = [
        new.new_markdown_cell(badge, id="badge", metadata=slide),
        new.new_code_cell(install, id="install", metadata=slide),
    ]
    return notebook


# Slides


def slides(students: list[Any], executed: list[Any]) -> str:
    """A page of slides, up to what is at home: the students' code with the outputs of a run."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import TagRemovePreprocessor
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(
        template_name="basic",
        preprocessors=[TagRemovePreprocessor(remove_input_tags={"folded"})],
    )
    parts = []
    for cells in grouped(students, executed):
        body, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
        body = body.replace("<details>", "<details open>")
        parts.append(f"<section>{with_mathml(body)}</section>")
    title = students[0].source.splitlines()[0].strip("# ")
    style = STYLE + HtmlFormatter().get_style_defs(".highlight")
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{style}</style>\n{''.join(parts)}\n<script>{KEYS}</script>\n</html>\n"
    )


def grouped(students: list[Any], executed: list[Any]) -> Iterator[list[Any]]:
    """The cells of each slide, without hidden code and without what marks an exercise.

    A question is not answered on its own slide: there, a cell shows its code and not its output.
    """
    slide: list[Any] = []
    for cell, result in zip(students, executed, strict=True):
        kind, tags = cell.metadata.slideshow.slide_type, cell.metadata.get("tags", [])
        if kind == "skip" or "marks" in tags:
            continue
        if kind != "-" and slide:
            yield slide
            slide = []
        if cell.cell_type == "markdown" or "exercise" in tags:
            slide.append(cell)
            continue
        folded = copy.deepcopy(result)
        folded.metadata["tags"] = ["folded"]
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            result = folded
        elif any("**Before you run" in earlier.source for earlier in slide) and result.outputs:
            slide.append(cell)
            result = folded
        if result is folded and any("**Before you run" in earlier.source for earlier in slide):
            yield slide
            slide = []
        slide.append(result)
    yield slide


def with_mathml(body: str) -> str:
    """The page with its formulas as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    def formula(match: re.Match[str]) -> str:
        display = "block" if match["display"] else "inline"
        return str(convert(html.unescape(match["display"] or match["inline"]), display=display))

    pieces = re.split(r"(<pre.*?</pre>|<img[^>]*>|<code>.*?</code>)", body, flags=re.DOTALL)
    pattern = re.compile(r"\$\$(?P<display>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL)
    pieces[::2] = [pattern.sub(formula, piece) for piece in pieces[::2]]
    return "".join(pieces)


# The page to begin with


def build_plane(path: Path) -> None:
    """Train on the bundled digits for a minute, and write the plane of codes as a page."""
    with TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        for program, *arguments in (
            ("mnist.py", "--sample", "--epochs", "60", "--hidden", "128", "64", "--out", run),
            ("explore.py", run),
        ):
            subprocess.run([sys.executable, FOLDER.parent / program, *arguments], check=True)
        shutil.copy(Path(run) / "explore.html", path)


if __name__ == "__main__":
    main()
