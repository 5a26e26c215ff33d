"""Links to other projects' manuals, made from names alone: nothing is fetched."""

from docutils import nodes

SKLEARN = "https://scikit-learn.org/stable"
# Labels of scikit-learn's manual that docstrings inherited from it name.
SKLEARN_LABELS = {
    "df_output_transform": "modules/df_output_transform.html",
    "metadata_routing": "metadata_routing.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        "auto_examples/miscellaneous/plot_set_output.html"
    ),
}
# Where packages document a name.
PAGES = {
    "matplotlib": "https://matplotlib.org/stable/api/_as_gen/{}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{}.html",
    "sklearn": SKLEARN + "/modules/generated/{}.html",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{}.html",
}


def address(target):
    """Where a dotted name is documented, or None; methods stand on their class's page."""
    parts = target.split(".")
    if parts[0] not in PAGES or len(parts) == 1:
        return None
    classes = [i for i, part in enumerate(parts) if part[:1].isupper()]
    known = parts[: classes[0] + 1] if classes else parts
    anchor = f"#{target}" if len(known) < len(parts) else ""
    return PAGES[parts[0]].format(".".join(known)) + anchor


def resolve(app, env, node, contnode):
    """Answer sphinx where it knows no target itself."""
    target, kind = node.get("reftarget", ""), node.get("reftype")
    if target.startswith("skae.comparison."):  # documented under the name that users import
        name = target.replace("comparison.", "")
        python = env.get_domain("py")
        return python.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, contnode)
    if kind == "term":
        where = f"{SKLEARN}/glossary.html#term-{target}"
    elif kind == "ref":
        where = target in SKLEARN_LABELS and f"{SKLEARN}/{SKLEARN_LABELS[target]}"
    else:
        where = address(target)
    if not where:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=where)


def setup(app):
    """Listen for names that resolve to nothing."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
