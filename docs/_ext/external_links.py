"""Links to other projects' manuals, made from names alone: nothing is fetched."""

from docutils import nodes

SKLEARN = "https://scikit-learn.org/stable"
SKORCH = "https://skorch.readthedocs.io/en/stable"
# Labels of scikit-learn's manual that docstrings inherited from it name.
SKLEARN_LABELS = {
    "metadata_routing": "metadata_routing.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": (
        "auto_examples/miscellaneous/plot_set_output.html"
    ),
}


def address(target):
    """Where a dotted name is documented, or None."""
    package, *rest = target.split(".")
    if package == "sklearn" and rest:
        return f"{SKLEARN}/modules/generated/{'.'.join(_object(target))}.html{_anchor(target)}"
    if target.startswith("skorch.callbacks"):
        return f"{SKORCH}/callbacks.html"
    if package == "skorch":
        return f"{SKORCH}/net.html"
    return None


def _object(target):
    """Parts of the name up to a class or function: methods stand on their class's page."""
    parts = target.split(".")
    classes = [i for i, part in enumerate(parts) if part[0].isupper()]
    return parts[: classes[0] + 1] if classes else parts


def _anchor(target):
    return f"#{target}" if len(_object(target)) < len(target.split(".")) else ""


def resolve(app, env, node, contnode):
    """Answer sphinx where it knows no target itself."""
    target = node.get("reftarget", "")
    if node.get("reftype") == "ref":
        page = SKLEARN_LABELS.get(target)
        where = page and f"{SKLEARN}/{page}"
    else:
        where = address(target)
    if not where:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=where)


def setup(app):
    """Listen for names that resolve to nothing."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
