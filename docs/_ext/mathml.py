"""Formulas as MathML, written by docutils at build: no script, no font, no network."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def visit_inline(translator, node):
    """``:math:``."""
    translator.body.append(latex2mathml.tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """``.. math::``; a wide formula scrolls inside its own box."""
    translator.body.append('<div class="math-block">')
    translator.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer that ``html_math_renderer`` names."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
