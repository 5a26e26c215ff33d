"""What docstrings say that reStructuredText would take for something else."""

import re


def quote_names_in_shapes(app, what, name, obj, options, lines):
    """Names in shapes end with an underscore, as references do: ``(n_components_,)``."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(
            r"(?<=shape )\([^)`]*\)",
            lambda shape: re.sub(r"\b\w+_\b", r"`\g<0>`", shape[0]),
            line,
        )


def setup(app):
    """Read docstrings before numpydoc does."""
    app.connect("autodoc-process-docstring", quote_names_in_shapes, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
