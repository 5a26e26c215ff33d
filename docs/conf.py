"""How the manual is built; nothing here or in `_ext` reaches for the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import skae  # noqa: E402

project = "skae"
author = "the skae developers"
project_copyright = "the skae developers (BSD-3-Clause)"
version = release = skae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "external_links",
    "markdown_pages",
    "mathml",
    "pictures",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "**/README.rst", "auto_examples/**/*.ipynb"]
default_role = "literal"
nitpicky = True
nitpick_ignore = [("py:obj", "relations_")]  # numpydoc links properties, which have no page

# API pages.
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say more than annotations do
numpydoc_show_class_members = False  # the template lists them
numpydoc_xref_param_type = False

# Formulas: docutils writes them as MathML, which browsers draw by themselves.
html_math_renderer = "mathml"

html_theme = "pydata_sphinx_theme"
html_title = "skae"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {  # pages without siblings need no list of them
    name: []
    for name in (
        *("index", "install", "getting_started", "how_it_works", "decisions"),
        "generated/[a-z]*",
    )
} | {"generated/benchmarks/*": ["sidebar-nav-bs"]}
html_theme_options = {
    "logo": {"text": "skae"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",  # the demos of `make demo`
    "within_subsection_order": "gallery_order.ByTask",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skae",),
    "inspect_global_variables": False,
    "abort_on_example_error": True,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "show_memory": False,
    "download_all_examples": False,
    "show_signature": False,
    "plot_gallery": "True",
}

# Markdown that is written elsewhere, and the pages it becomes.
markdown_pages = {
    "changelog": ("CHANGELOG.md", None),
    "contributing": ("CONTRIBUTING.md", None),
    "benchmarks/summary": ("README.md", "Results"),
    "benchmarks/limits": ("README.md", "When not to use it"),
    "benchmarks/reading": ("benchmarks/README.md", None),
    **{
        f"benchmarks/{path.stem}": (f"benchmarks/results/{path.name}", None)
        for path in sorted((HERE.parent / "benchmarks" / "results").glob("*.md"))
    },
}
