"""Formulas as MathML, written by docutils at build: no script, no font, no network."""

import re

from docutils import nodes
from docutils.utils.math import latex2mathml

# docutils would set an index under an accented letter, and not beside it.
ACCENTED = re.compile(r"(\\(?:tilde|hat|bar) ?\w)(?=[_^])")
# Nor does it leave room around the names of functions.
FUNCTION = re.compile(r"\\(log|tanh)\b")


def mathml(node, as_block):
    """The formula of a node."""
    formula = FUNCTION.sub(r"\\,\\\1\\,", ACCENTED.sub(r"\1{}", node.astext()))
    told = latex2mathml.tex2mathml(formula, as_block=as_block)
    # The macron that docutils takes is too short to be seen.
    return told.replace("\N{MODIFIER LETTER MACRON}", "\N{MACRON}")


def visit_inline(translator, node):
    """``:math:``."""
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """``.. math::``; a wide formula scrolls inside its own box."""
    translator.body.append('<div class="math-block">')
    translator.body.append(mathml(node, as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer that ``html_math_renderer`` names."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
