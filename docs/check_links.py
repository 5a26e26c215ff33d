"""Look for links in a built manual that lead nowhere: files, anchors, pictures.

python docs/check_links.py docs/_build/html
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}


class Page(HTMLParser):
    """Where a page links to, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        if tag in LINKS and attrs.get(LINKS[tag]):
            self.links.append(attrs[LINKS[tag]])


def dangling(folder):
    """(page, link) pairs of links that lead nowhere, and links that leave for `http:`."""
    folder = Path(folder).resolve()
    paths = [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme in ("https", "mailto", "data"):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            is_there = target.exists() and not url.scheme
            if is_there and url.fragment and target in pages:
                is_there = url.fragment in pages[target].anchors
            if not is_there:
                yield path.relative_to(folder), link


def main(folder):
    """Print what leads nowhere; the exit status tells whether anything did."""
    found = list(dangling(folder))
    for page, link in found:
        print(f"{page}: {link}")
    print(f"{len(found)} dangling links")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
