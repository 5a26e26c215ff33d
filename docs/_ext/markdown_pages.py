"""Pages from Markdown that is written elsewhere: results, changelog, README.

It reads what these files use, headings, paragraphs, lists, pipe tables, fences, images and
links, and no more. Pages are written to ``docs/generated`` before sphinx looks for sources.
"""

import re
import shutil
from itertools import groupby
from pathlib import Path

HEADINGS = "=-~^"
# Files that are pages of the manual; links to others show the file's name.
PAGES = {"CHANGELOG.md": "/generated/changelog", "CONTRIBUTING.md": "/generated/contributing"}
TOKEN = re.compile(r"`[^`]+`|!?\[[^\]]*\]\([^)]*\)|\*\*[^*]+\*\*|\*[^*\s][^*]*\*")


def section(text, title):
    """The part of a page under a second-level heading, as a page of its own."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if match is None:
        raise ValueError(f"there is no section {title!r}")
    return f"# {title}\n{match[1]}".replace("\n### ", "\n## ")


def to_rst(text):
    """A page of Markdown in reStructuredText."""
    return "\n".join(line for block in _blocks(text) for line in [*_block(block), ""])


def _blocks(text):
    """Lists of lines that belong together."""
    parts = re.split(r"^(```.*?^```$)", text, flags=re.M | re.S)
    for part in parts:
        if part.startswith("```"):
            yield part.splitlines()
            continue
        lines = re.sub(r"^(#+ .*)$", r"\n\1\n", part, flags=re.M).splitlines()
        for is_text, group in groupby(lines, key=lambda line: bool(line.strip())):
            if is_text:
                yield list(group)


def _block(lines):
    first = lines[0]
    if first.startswith("```"):
        language = first[3:].strip() or "text"
        return [f".. code-block:: {language}", "", *(f"   {line}" for line in lines[1:-1])]
    if first.startswith("#"):
        marks, title = first.split(" ", 1)
        title = inline(title)
        return [title, HEADINGS[len(marks) - 1] * len(title)]
    if first.startswith("|"):
        return _table(lines)
    if image := re.fullmatch(r"!\[(.*)\]\((.*)\)", first):
        return [f".. image:: {Path(image[2]).name}", f"   :alt: {image[1]}"]
    if first.startswith("- "):
        return _list(lines)
    return [inline(" ".join(line.strip() for line in lines))]


def _list(lines):
    items = []
    for line in lines:
        if line.startswith("- "):
            items.append(line[2:])
        else:
            items[-1] += " " + line.strip()
    return [f"- {inline(item)}" for item in items]


def _table(lines):
    """A table that scrolls inside its own box on narrow screens."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    rows = [rows[0], *rows[2:]]
    width = max(map(len, rows))
    out = [".. list-table::", "   :header-rows: 1", "   :class: results", ""]
    for row in rows:
        cells = row + [""] * (width - len(row))
        marks = ["   * -", *["     -"] * (width - 1)]
        out += [f"{mark} {inline(cell)}".rstrip() for mark, cell in zip(marks, cells, strict=True)]
    return out


def inline(text):
    """Code, links, emphasis; every other sign stands for itself."""
    out, end = [], 0
    for match in TOKEN.finditer(text):
        out += [_escaped(text[end : match.start()]), _token(match[0])]
        end = match.end()
    return "".join([*out, _escaped(text[end:])]).strip().removeprefix("\\ ").removesuffix("\\")


def _token(token):
    if token.startswith("`"):
        return f"\\ ``{token[1:-1]}``\\ "
    if token.startswith("["):
        label, where = re.fullmatch(r"\[([^\]]*)\]\(([^)]*)\)", token).groups()
        if where in PAGES:
            return f":doc:`{label.removesuffix('.md').capitalize()} <{PAGES[where]}>`"
        return f"`{label} <{where}>`__" if "://" in where else _escaped(label)
    stars = "**" if token.startswith("**") else "*"
    inner = token.strip("*").replace("`", "")
    return f"\\ {stars}{inner}{stars}\\ "


def _escaped(text):
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def write_pages(app):
    """Write all pages; those that have not changed are left alone."""
    root = Path(app.srcdir).parent
    for name, (source, title) in app.config.markdown_pages.items():
        text = (root / source).read_text(encoding="utf-8")
        text = to_rst(text if title is None else section(text, title))
        page = Path(app.srcdir) / "generated" / f"{name}.rst"
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
        for picture in re.findall(r"^\.\. image:: (.*)$", text, re.M):
            shutil.copy2((root / source).parent / picture, page.parent)


def setup(app):
    """Pages are there before sources are looked for."""
    app.add_config_value("markdown_pages", {}, "env")
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
